"""Pairs found on a device, by vesin: the way for large periodic cells.

Its list is taken where it is known to be whole; where it may not be, the host is asked. What vesin does on CUDA was
read in the source of 0.6.2 and tried by running its kernels on a CPU, never on a GPU:

- It takes memory for max(128, cutoff³/Å³) pairs an atom, or VESIN_CUDA_MAX_PAIRS_PER_POINT. More are an error.
- It takes libcudart and libnvrtc if they are loaded, else the loader's; not to find one is an error.
- Two atoms at exactly the same place are no pair for it, so they are looked for here.
- A frame has at most 8192 bins, counted in int32. Where it is not periodic they span its farthest atoms: one stray atom
  and every atom is tested against every other, or the count overflows.
- It works on the default stream and stops the host some six times a frame.
"""

from contextlib import suppress
from functools import cache

import numpy as np

from fastdesc.backend.arrays import namespace, to_host_together
from fastdesc.pairs import cell_list

MOST_ATOMS_ON_HOST = 4096
"""Atoms a frame up to which the host finds the pairs. Reasoned, not measured on a GPU: the host took 1.1 µs an atom of
copper (78 pairs, two cores, 4000 atoms), and the list is 1.6 kB an atom to copy; vesin and what follows are some 150
launches, six waits and a dozen allocations, at about 10 µs each as long as the host takes for two thousand atoms. Up to
4096 a calculator's list goes into a graph, from the host (fastdesc/potential/cuda_graph.py)."""
MOST_BINS = 2**31
"""For vesin multiplies numbers of bins in int32."""
FARTHEST = 100.0
"""Cells an atom may be away from its own."""
SAME = 1e-9
"""Parts of a cell vector, far above the rounding of such a number and far below the distance of two atoms."""


def large(structures):
    """Whether frames have so many atoms on average that it pays to move them before their pairs are found."""
    return structures.n_atoms > MOST_ATOMS_ON_HOST * structures.n_frames


def suits(structures, cutoff):
    """Whether all frames are periodic, not thinner than the cutoff, and not emptier than vesin can count."""
    if not structures.pbc.all():
        return False
    heights = 1 / np.linalg.norm(np.linalg.inv(structures.host_cells), axis=1)
    return bool(heights.min() >= cutoff and (heights / cutoff).prod(1).max() < MOST_BINS)


def find(structures, cutoff):
    """Find all pairs closer than the cutoff.

    A pair is one number, made of i, j and its shift. Sorted, these numbers are the list, and the place of the number of
    (j, i, -shift) is the mirror: one sort and one search. For a million atoms with 78 pairs some ten arrays of 0.6 GB
    live at once, after vesin's own memory for 216 pairs an atom, 7.8 GB at 6 Å (counted, not measured).

    Parameters
    ----------
    structures : Structures
        On a device; `suits` said yes.
    cutoff : float, in Å

    Returns
    -------
    row, j, shift, mirror : arrays of the device, as in Pairs
    shortest : float
        Smallest distance, in Å; inf without pairs.

    Raises
    ------
    RuntimeError
        Where vesin cannot search, and where its list is not, or may not be, whole.
    """
    _load_libraries()
    cuda = namespace(structures.positions).cuda
    cuda.get_current_stream().synchronize()    # vesin waits for no stream that does not wait for the default one
    with cuda.Stream.null:
        return _find(structures, cutoff)


@cache
def _load_libraries():
    """Load what pip has installed of CUDA: vesin would not find it."""
    for name in ("cudart", "nvrtc"):
        with suppress(ImportError, RuntimeError):    # then vesin says what it lacks
            from cuda import pathfinder

            pathfinder.load_nvidia_dynamic_lib(name)


def _find(structures, cutoff):
    xp, n = namespace(structures.positions), structures.n_atoms
    width = int((2**62 / n**2) ** (1 / 3))
    width -= 1 - width % 2    # shifts -width // 2 .. width // 2
    key, shortest, reach, farthest, doubtful = _searched(xp, structures, cutoff, width)
    key = xp.sort(key)
    i, j, shift = _pair(key, n, width)
    other = _number(j, i, [-s for s in shift], n, width)
    mirror = xp.searchsorted(key, other)
    lone = (key[xp.minimum(mirror, max(len(key) - 1, 0))] != other).sum() + (key[1:] == key[:-1]).sum()
    row = xp.searchsorted(key, xp.arange(n + 1) * (n * width**3))
    shift = xp.stack([s.astype(np.int32) for s in shift], axis=1)
    found = row.astype(np.int64), j.astype(np.int32), shift, mirror.astype(np.int32)
    judged = (x.astype(np.float64) for x in (shortest, reach, farthest, doubtful, lone))
    shortest, reach, farthest, doubtful, lone = map(float, to_host_together(*judged))
    if reach > width // 2 or not farthest <= FARTHEST:
        raise RuntimeError(f"atoms are {max(reach, farthest):.0f} cells away from their own; wrap their positions")
    if doubtful:
        raise RuntimeError("two atoms are so close that they may be no pair for vesin")
    if lone:
        raise RuntimeError(f"{lone:.0f} of {len(key)} pairs have no mirror or come twice")
    return *found, shortest


def _searched(xp, structures, cutoff, width):
    """Numbers of all pairs, in any order; and on the device the shortest distance, the largest shift, how many cells an
    atom is away at most, and whether atoms may share one place."""
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=True, algorithm="cell_list")
    inverse = xp.asarray(np.linalg.inv(structures.host_cells))
    shortest, reach, farthest = xp.full((), np.inf), xp.zeros((), np.int32), xp.zeros(())
    doubtful, keys, n_pairs = xp.zeros((), bool), [xp.zeros(0, np.int64)], 0
    for f, (a, end) in enumerate(zip(structures.first[:-1], structures.first[1:], strict=True)):
        positions = structures.positions[a:end]
        i, j, shift, d = search.compute(positions, structures.cells[f], structures.pbc[f], "ijSd", copy=False)
        n_pairs += len(d)
        if n_pairs > cell_list.MOST_PAIRS:
            raise RuntimeError(f"more than {cell_list.MOST_PAIRS} pairs")
        away = positions @ inverse[f]
        farthest = xp.maximum(farthest, xp.abs(away).max())
        doubtful = doubtful | _may_coincide(xp, away - xp.floor(away))
        if len(d):
            shortest, reach = xp.minimum(shortest, d.min()), xp.maximum(reach, xp.abs(shift).max())
            i, j, *shift = (x.astype(np.int64) for x in (i, j, *(shift[:, c] for c in range(3))))
            keys.append(_number(i + a, j + a, shift, structures.n_atoms, width))
    return xp.concatenate(keys), shortest, reach, farthest, doubtful


def _number(i, j, shift, n_atoms, width):
    """The number of a pair: i, j and the shift are its digits, in this order."""
    number = i * n_atoms + j
    for s in shift:
        number = number * width + (s + width // 2)
    return number


def _pair(number, n_atoms, width):
    """Return i, j and the three components of the shift; the inverse of `_number`."""
    shift = []
    for _ in range(3):
        shift.insert(0, number % width - width // 2)
        number = number // width
    return number // n_atoms, number % n_atoms, shift


def _may_coincide(xp, parts):
    """Whether two atoms may share one place; never wrong in saying no, and nearly never in saying yes.

    Along each cell vector, atoms are sorted into groups with gaps between them. Atoms at one place are in one group
    along all three.

    Parameters
    ----------
    parts : float64 (n_atoms, 3), of the device
        Of the cell vectors, from 0 to 1.
    """
    groups = xp.empty((3, len(parts)), np.int64)
    for c in range(3):
        order = xp.argsort(parts[:, c])
        x = parts[order, c]
        group = xp.zeros(len(x), np.int64)
        group[1:] = xp.cumsum(x[1:] - x[:-1] > SAME, dtype=np.int64)
        # A cell ends where it begins.
        group = xp.where((group == group[-1]) & (x[0] + 1 - x[-1] <= SAME), 0, group)
        groups[c, order] = group
    groups = groups[:, xp.lexsort(groups)]
    return (groups[:, 1:] == groups[:, :-1]).all(0).any()
