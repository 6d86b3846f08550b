"""Neighbour lists: who sees whom across periodic images, in rows, with mirrors."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.backend.jit import kernel
from fastdesc.backend.memory import check_memory
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.pairs import cell_list, cuda
from fastdesc.structures import Structures, owners
from fastdesc.types import Array, Device

PAIR_BYTES = 140
"""On the host, of a pair and its vector, while they are found and used: 1.1 GB for 100 atoms and 60 Å."""
SAME_PLACE = 1e-6
"""Å; atoms closer than this are refused."""


class Alone:
    """The exchange of a list without ghosts: does nothing.

    An exchange moves values of atoms, arrays (n_atoms, n_values) of a list with ghosts, the ghosts last.
    """

    def forward(self, values):
        """Overwrite the ghosts' values by those of their owners."""

    def reverse(self, values):
        """Add the ghosts' values to those of their owners."""


class Pairs:
    """Full neighbour list of many frames, sorted by the centre i.

    Pair p has its centre at x_i and its neighbour at x_j + shift·H:

        (1)   r_p = x_j - x_i + shift_p·H

    Attributes
    ----------
    row : int64 (n_atoms + 1,)
        Atom i owns the pairs row[i] .. row[i + 1].
    j : int32 (n_pairs,)
        Neighbour, an index into all atoms of all frames.
    shift : int32 (n_pairs, 3)
        Cell translations of the neighbour.
    mirror : int32 (n_pairs,)
        Index of the pair (j, i, -shift).
    cutoff : float
        In Å.
    first : int64 (n_frames + 1,)
        Frame f owns the atoms first[f] .. first[f + 1]; on the host always.
    columns : list of int64 arrays, or None
        Atoms of each element, where `note_species` was told.
    exchange : Alone
        Where the values of ghosts come from and go to.
    names : int array (n_atoms,), or None
        Numbers of the centres as neighbours, on the host, where these are others: in fastdesc/pairs/pieces.py.
    shortest : float
        Distance of the closest pair when the list was found, Å; inf where there was none, 0 where that is not known.
    """

    columns: list[Array] | None = None
    noted: tuple[Array, int] | None = None    # what note_species was told
    names: Array | None = None
    shortest: float = 0.0
    memory = staticmethod(np.empty)    # makes what is kept with the list
    exchange: Alone = Alone()
    _whole: "Pairs | None" = None
    _blocks: tuple | None = None    # of fastdesc.pairs.blocks.pair_blocks, kept
    sliced: tuple | None = None    # of fastdesc.descriptors.gaussian_moments.large_list.sliced, kept

    def __init__(self, row: Array, j: Array, shift: Array, mirror: Array, cutoff: float, first: Array) -> None:
        self.row = row
        self.j = j
        self.shift = shift
        self.mirror = mirror
        self.cutoff = cutoff
        self.first = first

    @classmethod
    def find(cls, structures: Structures, cutoff: float) -> Self:
        """Find all pairs closer than the cutoff; they lie where the positions do.

        Periodic images count, also those of the centre itself. For positions on a GPU vesin searches there, where all
        frames are periodic and not thinner than the cutoff; else, and where its list is not whole, the host does.

        Parameters
        ----------
        structures : Structures
        cutoff : float
            In Å.

        Raises
        ------
        InputError
            For a cutoff that is not positive and finite, for two atoms closer than 1e-6 Å (names both), and where
            there are too many pairs or images for an index, or for the memory that is free.
        """
        return cls._found(structures, cutoff, np.empty)

    @classmethod
    def _found(cls, structures, cutoff, memory):
        """As `find`; `memory` makes the arrays of a list that is found on the host, as numpy.empty does."""
        if not isinstance(structures, Structures):
            raise InputError(f"structures is a {type(structures).__name__}; give Structures.from_ase(frames)")
        if not isinstance(cutoff, Real) or isinstance(cutoff, bool) or not 0 < cutoff < np.inf:
            raise InputError(f"cutoff {cutoff!r} arrived; it must be a positive and finite number, in Å")
        cutoff = float(cutoff)
        expected = _expected(structures, cutoff)
        too_many = "about {:.1e} pairs of atoms are within the cutoff {} Å of each other, {}; {}"
        remedy = "check its unit or give fewer frames"
        if expected > cell_list.MOST_PAIRS:
            raise InputError(too_many.format(expected, cutoff, f"{cell_list.MOST_PAIRS:.1e} can be had", remedy))

        def judge():
            what = f"about {expected:.1e} pairs of atoms within the cutoff {cutoff} Å of each other"
            check_memory(expected * PAIR_BYTES, what, "use a smaller cutoff, or fewer frames at a time")

        try:
            row, j, shift, mirror, shortest = _search(structures, cutoff, judge, memory)
        except MemoryError as error:
            raise InputError(too_many.format(expected, cutoff, "more than fit into memory", remedy)) from error
        pairs = cls(row, j, shift, mirror, cutoff, structures.first)
        pairs.shortest, pairs.memory = float(shortest), memory
        if shortest < SAME_PLACE:
            check_distances(structures, pairs)
        return pairs

    def __repr__(self) -> str:
        return f"<Pairs: {self.n_pairs} of {self.n_atoms} atoms in {self.n_frames} frames, cutoff {self.cutoff} Å>"

    @property
    def n_pairs(self) -> int:
        return len(self.j)

    @property
    def n_atoms(self) -> int:
        return len(self.row) - 1

    @property
    def n_frames(self) -> int:
        return len(self.first) - 1

    @property
    def whole(self) -> "Pairs":
        """The list with the rows of ghosts, where this one has those of the centres; else itself."""
        return self if self._whole is None else self._whole

    def centres(self, n: int) -> "Pairs":
        """The rows of the first n atoms, which are evaluated; the others are ghosts.

        Of a list with ghosts (fastdesc/pairs/ghost_list.py), whose rows hold the mirrors of pairs alone. Arrays of
        pairs keep the length of the whole list, and species go on naming the elements of all atoms.
        """
        rows = Pairs(self.row[: n + 1], self.j, self.shift, self.mirror, self.cutoff, np.array([0, n]))
        rows._whole = self
        return rows

    @cached_property
    def i(self) -> Array:
        """int32 (n_pairs,): the centre of every pair."""
        xp = namespace(self.j)
        marks = xp.zeros(self.n_pairs + 1, xp.int32)
        # Empty rows share one start: add.at counts them all.
        xp.add.at(marks, self.row[1:-1], 1)
        return xp.cumsum(marks[:-1], dtype=xp.int32)

    @cached_property
    def frame(self) -> Array:
        """int32 (n_atoms,): the frame of every atom, on the device of the pairs."""
        if self.n_frames == 1:
            return namespace(self.j).zeros(self.n_atoms, np.int32)
        frame = np.repeat(np.arange(self.n_frames, dtype=np.int32), np.diff(self.first))
        return namespace(self.j).asarray(frame)

    @cached_property
    def bounds(self) -> Array:
        """int64 (n_frames + 1,): `first` on the device of the pairs."""
        return namespace(self.j).asarray(self.first)

    @cached_property
    def starts(self) -> Array:
        """int64 (n_frames + 1,): frame f owns the pairs starts[f] .. starts[f + 1]; on the host always."""
        return to_host(self.row[self.bounds])

    def note_species(self, species: Array, n_species: int) -> None:
        """Note which atoms are of each element, told by the host: a device would have to be asked and waited for.

        Parameters
        ----------
        species : (n_atoms,) int array of the host
        n_species : int
        """
        self.noted = species, n_species
        small = species.astype(np.int16) if n_species < 1 << 15 else species    # NumPy sorts those by their digits
        order = namespace(self.j).asarray(np.argsort(small, kind="stable"))
        ends = np.cumsum(np.bincount(species, minlength=n_species))
        self.columns = [order[end - n : end] for end, n in zip(ends, np.diff(ends, prepend=0), strict=True)]

    @classmethod
    def concatenate(cls, pairs: "Sequence[Pairs]") -> Self:
        """One Pairs out of a list of them (of one cutoff and device), frames in order."""
        return cls(*joined(list(pairs)))

    def take(self, frames: ArrayLike) -> "Pairs":
        """The Pairs of some frames, in the order asked for."""
        xp = namespace(self.j)
        frames = np.atleast_1d(np.asarray(frames, np.int64))
        first, starts = (np.cumsum([0, *np.diff(bounds)[frames]]) for bounds in (self.first, self.starts))
        n_atoms, n_pairs = int(first[-1]), int(starts[-1])
        # A few numbers a frame go to a device, not one an atom or a pair.
        bounds = xp.asarray(np.stack([first, starts]))
        moved = xp.asarray(np.stack([first[:-1] - self.first[frames], starts[:-1] - self.starts[frames]]))
        frame, of_pair = owners(bounds[0], n_atoms), owners(bounds[1], n_pairs)
        pair = xp.arange(n_pairs) - moved[1][of_pair]
        row = xp.empty(n_atoms + 1, np.int64)
        row[:-1] = self.row[xp.arange(n_atoms) - moved[0][frame]] + moved[1][frame]
        row[-1] = n_pairs
        moved = moved.astype(np.int32)
        j, mirror = self.j[pair] + moved[0][of_pair], self.mirror[pair] + moved[1][of_pair]
        taken = Pairs(row, j, self.shift[pair], mirror, self.cutoff, first)
        taken.starts, taken.bounds, taken.frame = starts, bounds[0], frame.astype(np.int32)
        return taken

    def to_device(self, device: Device) -> "Pairs":
        """The same pairs on "cpu" or "cuda"."""
        j = to_device(self.j, device)
        if j is self.j:
            return self
        row, mirror = to_device(self.row, device), to_device(self.mirror, device)
        shift = None if self.shift is None else to_device(self.shift, device)    # lists with ghosts have none
        moved = Pairs(row, j, shift, mirror, self.cutoff, self.first)
        moved.starts, moved.shortest = self.starts, self.shortest
        if self.columns is not None:
            moved.columns, moved.noted = [to_device(x, device) for x in self.columns], self.noted
        return moved


def joined(found):
    """Arguments of a Pairs out of a list of them, as of Pairs.concatenate.

    The list is emptied meanwhile, so that no Pairs are in memory twice.
    """
    xp, cutoff = namespace(found[0].j), found[0].cutoff
    atoms, ends = (np.cumsum([0, *(getattr(p, name) for p in found)]) for name in ("n_atoms", "n_pairs"))
    n_atoms, n_pairs = int(atoms[-1]), int(ends[-1])
    row, first = xp.empty(n_atoms + 1, np.int64), [np.zeros(1, np.int64)]
    j, mirror, shift = xp.empty(n_pairs, np.int32), xp.empty(n_pairs, np.int32), xp.empty((n_pairs, 3), np.int32)
    row[n_atoms] = n_pairs
    for a, p in zip(atoms[:-1], ends[:-1], strict=True):
        one = found.pop(0)
        own = slice(int(p), int(p) + one.n_pairs)
        row[int(a) : int(a) + one.n_atoms] = one.row[:-1] + int(p)
        j[own], mirror[own], shift[own] = one.j + np.int32(a), one.mirror + np.int32(p), one.shift
        first.append(one.first[1:] + a)
    return row, j, shift, mirror, cutoff, np.concatenate(first)


def find_on(structures, cutoff, device, memory=np.empty):
    """Move frames to a device and find their pairs, in the order that is faster.

    Large cells are moved first and searched there; of small ones the pairs are found on the host and moved, too.

    Parameters
    ----------
    structures : Structures
    cutoff : float
        In Å.
    device : {"cpu", "cuda"}
    memory : callable
        Makes the arrays of a list on the host, as numpy.empty does: fastdesc.backend.arrays.empty for a list that is
        not needed any more when the work in kept memory is done.

    Returns
    -------
    structures : Structures
    pairs : Pairs
        Both on the device.

    Raises
    ------
    InputError
        As `Pairs.find`.
    """
    if device == "cuda" and cuda.large(structures) and cuda.suits(structures, cutoff):
        structures = structures.to_device(device)
    pairs = Pairs._found(structures, cutoff, memory)
    return structures.to_device(device), pairs.to_device(device)


def _search(structures, cutoff, judge, memory):
    """Return row, j, shift, mirror and the shortest distance; the arrays lie where the positions do."""
    if namespace(structures.positions) is np:
        arrays = structures.positions, structures.cells, structures.pbc, structures.first
        return cell_list.find(*map(np.ascontiguousarray, arrays), cutoff, judge, memory)
    problem = None
    if cuda.suits(structures, cutoff):
        try:
            return cuda.find(structures, cutoff)
        except (RuntimeError, MemoryError) as error:
            problem = str(error)
    *arrays, shortest = _search(structures.to_device("cpu"), cutoff, judge, np.empty)
    if problem is not None and shortest >= SAME_PLACE:    # else they are refused
        warnings.warn(f"pairs were found on the host, not on the device: {problem}", FastdescWarning, stacklevel=4)
    return *(to_device(x, "cuda") for x in arrays), shortest


def _expected(structures, cutoff):
    """Number of pairs if atoms were spread evenly; frames that are not periodic everywhere count as none."""
    squares = squares_by_volume(structures.first, structures.pbc, structures.volumes)
    return squares * 4 / 3 * np.pi * cutoff**3


@kernel
def squares_by_volume(first, pbc, volumes):
    """Sum of n_atoms² / volume over frames that are periodic everywhere."""
    total = 0.0
    for f in range(len(volumes)):
        if pbc[f, 0] and pbc[f, 1] and pbc[f, 2]:
            total += np.float64(first[f + 1] - first[f]) ** 2 / volumes[f]
    return total


def closest(structures, pairs):
    """Return the names of the two closest atoms of a list, as frames are now, and their distance in Å; or None."""
    from fastdesc.geometry import pair_vectors

    if not pairs.n_pairs:
        return None
    rij = to_host(pair_vectors(structures.positions, structures.cells, pairs, np.float64))
    d = np.sqrt((rij**2).sum(0))
    p = int(d.argmin())
    a, b = (structures.name_atom(int(to_host(x)[p])) for x in (pairs.i, pairs.j))
    return a, b.split(", ")[1], float(d[p])


def check_distances(structures, pairs):
    """InputError that names the two atoms of a list that now sit at one place, if there are any."""
    found = closest(structures, pairs)
    if found is not None and found[2] < SAME_PLACE:
        a, b, d = found
        raise InputError(f"{a} and {b} are {d:.1e} Å apart; two atoms cannot share one place: remove one")
