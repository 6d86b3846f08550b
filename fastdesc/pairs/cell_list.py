"""Neighbour search on the CPU: a cell list that writes rows, neighbours, shifts and mirrors directly.

Atoms are wrapped into a reduced cell and sorted into bins. Every pair is tested once, from the atom whose bin comes
first: that atom owns the pair. The row of an atom holds first the pairs it owns, in the order found, then those that
others own, in the order of their owners. So both places of a pair, and with them its mirror, are known when it is
written, and nothing depends on the number of threads.
"""

from math import sqrt

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.errors import InputError
from fastdesc.pairs.cell_grid import BINS_A_FRAME, BINS_AN_ATOM, FARTHEST, MOST_IMAGES, lay_grid
from fastdesc.simd import splat
from fastdesc.simd.nearby import AT_ONCE, keep_near, least_of

MOST_PAIRS = 2**31 - 1
FEWEST_ATOMS, MOST_TASKS = 512, 32
"""Every task counts for itself the pairs that other atoms will hold: few tasks, few counts."""
USUAL = 48
"""Pairs per owner for which memory is taken at once; more where that does not do."""


def find(positions, cells, pbc, first, cutoff, judge=lambda: None, memory=np.empty):
    """Find all pairs closer than the cutoff.

    Parameters
    ----------
    positions : float64 (n_atoms, 3), in Å
    cells : float64 (n_frames, 3, 3), in Å
        Only the vectors of periodic directions count.
    pbc : bool (n_frames, 3)
    first : int64 (n_frames + 1,)
    cutoff : float, in Å
    judge : callable
        Called when indices are known to fit, before arrays of pairs are made.
    memory : callable
        Makes arrays of pairs, as numpy.empty does.

    Returns
    -------
    row : int64 (n_atoms + 1,)
    j : int32 (n_pairs,)
    shift : int32 (n_pairs, 3)
    mirror : int32 (n_pairs,)
    shortest : float
        Smallest distance, in Å; inf without pairs.

    Raises
    ------
    InputError
        Where indices would overflow: absurdly small cells, atoms absurdly far from theirs, too many pairs.
    """
    n_atoms, n_frames = len(positions), len(first) - 1
    bins = np.empty((n_frames, 11), np.int64)
    start = np.zeros(BINS_AN_ATOM * n_atoms + BINS_A_FRAME * n_frames + 1, np.int32)
    sites, cards, home = np.empty((3, n_atoms)), np.empty((n_atoms, 4), np.int32), np.empty(n_atoms, np.int32)
    grid = bins, sites, cards, home, start
    vectors, shifts, bad, too_many = lay_grid(positions, cells, pbc, first, cutoff, *grid)
    if bad >= 0 and too_many:
        raise InputError(
            f"the cell of frame {bad} has more than {MOST_IMAGES} periodic images within the cutoff {cutoff} Å; "
            "check the units of cell and cutoff"
        )
    if bad >= 0:
        raise InputError(f"an atom of frame {bad} is over {FARTHEST:.0e} cells away from its own; wrap its positions")
    judge()

    # A task can give pairs to the atoms of its own frames only: `given` holds a count for each of these.
    step = min(max(FEWEST_ATOMS, -(-n_atoms // MOST_TASKS)), n_atoms)
    if step == n_atoms:
        begin, reach, offset = [0], np.array([[0], [n_atoms]]), np.array([0, n_atoms])
    else:
        begin = np.arange(0, n_atoms, step)
        end = np.minimum(begin + step, n_atoms)
        reach = np.stack([first[np.searchsorted(first, begin, "right") - 1], first[np.searchsorted(first, end)]])
        offset = np.cumsum([0, *(reach[1] - reach[0])])
    given, owned = np.zeros(offset[-1], np.int32), np.empty(n_atoms, np.int32)
    buffers = memory((len(begin), 2, USUAL * step), np.uint32)

    def search(a, b):
        t = a // step
        mine, base = given[offset[t] : offset[t + 1]], reach[0, t]
        return find_owned(a, b, cutoff, first, pbc, bins, vectors, sites, home, start, owned, mine, base, buffers[t])

    found = for_chunks(search, n_atoms, step)
    row = np.zeros(n_atoms + 1, np.int64)
    place_rows(cards, owned, given, offset, reach, row)
    n_pairs = int(row[-1])
    if n_pairs > MOST_PAIRS:
        raise InputError(f"{n_pairs} pairs in one list, {MOST_PAIRS} are allowed; use smaller batches of frames")
    j, shift, mirror = memory((n_pairs,), np.int32), memory((n_pairs, 3), np.int32), memory((n_pairs,), np.int32)

    def write(a, b):
        t = a // step
        mine, (pairs, _) = given[offset[t] : offset[t + 1]], found[t]
        write_owned(a, b, cards, shifts, owned, pairs, mine, reach[0, t], row, j, shift, mirror)

    for_chunks(write, n_atoms, step)
    for_chunks(write_taken, n_atoms, step, after=(cards, owned, row, shift, mirror))
    return row, j, shift, mirror, sqrt(min(smallest for _, smallest in found))


@inner
def displace(x, by, out):
    for k in range(len(out)):
        out[k] = x[k] + by


@inner
def label(s, image, atoms, images):
    for k in range(len(atoms)):
        atoms[k] = s + k
        images[k] = image


@inner
def more(array, used, wanted):
    """The array, or where it is too short for `wanted` a longer one with the same first `used` columns."""
    if wanted <= array.shape[1]:
        return array
    longer = np.empty((array.shape[0], 2 * wanted), array.dtype)
    for c in range(array.shape[0]):
        for k in range(used):
            longer[c, k] = array[c, k]
    return longer


@inner
def image_of(x, n):
    """Which image of n bins holds bin x."""
    return 0 if 0 <= x < n else x // n


@inner
def gather(a, b, f, pbc, bins, vectors, sites, start, points, tags):
    """Collect what the atoms a, a + 1, .. of bin b may own: the rest of their bin, then all bins after it.

    A bin offset (x, y, z) comes after (0, 0, 0) when its first number that is not zero is positive: of the offsets
    to and from a neighbour just one does.

    Returns
    -------
    n, points (3, >= n + 16) their places seen from bin b, tags (2, >= n + 16) their sorted indices and images
    """
    nx, ny, nz, kx, ky, kz = bins[f, 0], bins[f, 1], bins[f, 2], bins[f, 3], bins[f, 4], bins[f, 5]
    bx, by, bz = (b - bins[f, 6]) // (ny * nz), (b - bins[f, 6]) // nz % ny, (b - bins[f, 6]) % nz
    n = 0
    for x in range(bx, bx + kx + 1):
        image_x = image_of(x, nx)
        if image_x != 0 and not pbc[f, 0]:
            break
        for y in range(by - ky if x > bx else by, by + ky + 1):
            image_y = image_of(y, ny)
            if image_y != 0 and not pbc[f, 1]:
                continue
            line = bins[f, 6] + ((x - image_x * nx) * ny + y - image_y * ny) * nz
            image_xy = (image_x + bins[f, 8]) * (2 * bins[f, 9] + 1) + image_y + bins[f, 9]
            image_xy = bins[f, 7] + image_xy * (2 * bins[f, 10] + 1) + bins[f, 10]
            z = bz if x == bx and y == by else bz - kz
            end = bz + kz + 1
            if not pbc[f, 2]:
                z, end = max(z, 0), min(end, nz)
            while z < end:
                # The bins of a line are neighbours in memory, up to the end of the cell.
                image_z = image_of(z, nz)
                stop = min(end, (image_z + 1) * nz)
                s = start[line + z - image_z * nz] if n > 0 else a
                m = n + start[line + stop - image_z * nz] - s
                z = stop
                if m > points.shape[1]:
                    points, tags = more(points, n, m), more(tags, n, m)
                image = image_xy + image_z
                displace(sites[0, s:], vectors[image, 0], points[0, n:m])
                displace(sites[1, s:], vectors[image, 1], points[1, n:m])
                displace(sites[2, s:], vectors[image, 2], points[2, n:m])
                label(s, image, tags[0, n:m], tags[1, n:m])
                n = m
    points, tags = more(points, n, n + AT_ONCE), more(tags, n, n + AT_ONCE)
    points[0, n : n + AT_ONCE] = np.inf    # no neighbours
    return n, points, tags


@kernel
def find_owned(begin, end, cutoff, first, pbc, bins, vectors, sites, home, start, owned, given, base, pairs):
    """Find the pairs that the sorted atoms begin .. end own.

    Out: owned (n_atoms,) how many each owns; given (..,) how many the sorted atom base + k is the neighbour in.

    Returns
    -------
    pairs (2, >= n) sorted index and image of the neighbour, longer if need be; smallest squared distance
    """
    points, tags = np.empty((3, 512)), np.empty((2, 512), np.uint32)
    n_pairs, limit, least = 0, cutoff * cutoff, splat(0.0, np.inf)
    f = np.searchsorted(first, begin, "right") - 1
    a = begin
    while a < end:
        while a >= first[f + 1]:
            f += 1
        last = min(end, start[home[a] + 1])
        n, points, tags = gather(a, home[a], f, pbc, bins, vectors, sites, start, points, tags)
        for s in range(a, last):
            pairs = more(pairs, n_pairs, n_pairs + n + AT_ONCE)
            x, y, z, m = sites[0, s], sites[1, s], sites[2, s], n_pairs
            for k in range(s - a + 1, n, AT_ONCE):
                least, m = keep_near(points, tags, k, x, y, z, limit, least, pairs, m)
            for q in range(np.uint64(n_pairs), np.uint64(m)):
                given[np.uint64(pairs[0, q] - base)] += 1
            owned[s] = m - n_pairs
            n_pairs = m
        a = last
    shortest = least_of(least)
    return pairs, shortest if shortest < limit else np.inf


@kernel
def place_rows(cards, owned, given, offset, reach, row):
    """Fill row, which comes as zeros; turn the counts of a task into places of the first pairs it gives to atoms."""
    n_atoms = len(owned)
    place = np.empty(n_atoms, np.int64)
    for s in range(n_atoms):
        place[s] = owned[s]
    for t in range(len(offset) - 1):
        add_to(given[offset[t] : offset[t + 1]], place[reach[0, t] : reach[1, t]])
    for s in range(n_atoms):
        row[cards[s, 3] + 1] = place[s]
    for i in range(n_atoms):
        row[i + 1] += row[i]
    for s in range(n_atoms):
        place[s] = row[cards[s, 3]] + owned[s]
    for t in range(len(offset) - 1):
        place_counts(given[offset[t] : offset[t + 1]], place[reach[0, t] : reach[1, t]])


@inner
def add_to(counts, total):
    for s in range(len(counts)):
        total[s] += counts[s]


@inner
def place_counts(counts, place):
    """A running sum: counts become places, places move on by the counts."""
    for s in range(len(counts)):
        count = counts[s]
        counts[s] = place[s]
        place[s] += count


@kernel
def write_owned(begin, end, cards, shifts, owned, pairs, given, base, row, j, shift, mirror):
    """Write the pairs that the sorted atoms begin .. end own, and of their mirrors all but the shift.

    In the reduced cell the pair of s and the image m of t is shifted by m - wraps_t + wraps_s.
    """
    n = np.uint64(0)
    for s in range(np.uint64(begin), np.uint64(end)):
        x, y, z, i = cards[s, 0], cards[s, 1], cards[s, 2], cards[s, 3]
        p, stop = np.uint64(row[i]), n + np.uint64(owned[s])
        for k in range(n, stop):
            t, m = pairs[0, k], pairs[1, k]
            place = np.uint64(t - base)
            q = np.uint32(given[place])
            given[place] = q + 1
            u, v, w = shifts[m, 0] - cards[t, 0] + x, shifts[m, 1] - cards[t, 1] + y, shifts[m, 2] - cards[t, 2] + z
            j[p], mirror[p] = cards[t, 3], q
            shift[p, 0], shift[p, 1], shift[p, 2] = u, v, w
            j[q], mirror[q] = i, p
            p += np.uint64(1)
        n = stop


@kernel
def write_taken(begin, end, cards, owned, row, shift, mirror):
    """Write the shifts of pairs of the sorted atoms begin .. end that others own: less is scattered over memory."""
    for t in range(np.uint64(begin), np.uint64(end)):
        i = np.uint64(cards[t, 3])
        for q in range(np.uint64(row[i] + owned[t]), np.uint64(row[i + np.uint64(1)])):
            p = np.uint64(mirror[q])
            u, v, w = shift[p, 0], shift[p, 1], shift[p, 2]
            shift[q, 0], shift[q, 1], shift[q, 2] = -u, -v, -w
