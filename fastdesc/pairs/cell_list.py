"""Neighbour search on the CPU: a cell list that writes rows, neighbours, shifts and mirrors directly.

Atoms are wrapped into a reduced cell and sorted into bins. Every pair is tested once, from the atom whose bin comes
first: that atom owns the pair. The row of an atom holds first the pairs it owns, in the order found, then those that
others own, in the order of their owners. So both places of a pair, and with them its mirror, are known when it is
written, and nothing depends on the number of threads.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.errors import InputError
from fastdesc.pairs.cell_grid import FARTHEST, MOST_IMAGES, list_images, plan, sort_atoms

MOST_PAIRS = 2**31 - 1
FEWEST_ATOMS, MOST_TASKS = 512, 32
"""Every task counts for itself the pairs that other atoms will hold: few tasks, few counts."""
USUAL = 48
"""Pairs per owner for which there is room at once; more where it does not do."""


def find(positions, cells, pbc, first, cutoff, judge=lambda: None):
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
    (basis, inverse), turn = np.empty((2, n_frames, 3, 3)), np.empty((n_frames, 3, 3), np.int64)
    (low, scale), bins = np.empty((2, n_frames, 3)), np.empty((n_frames, 11), np.int64)
    n_bins, n_images, bad = plan(positions, cells, pbc, first, cutoff, basis, turn, inverse, low, scale, bins)
    if bad >= 0:
        raise InputError(
            f"the cell of frame {bad} has more than {MOST_IMAGES} periodic images within the cutoff {cutoff} Å; "
            "check the units of cell and cutoff"
        )
    vectors, shifts = np.empty((n_images, 3)), np.empty((n_images, 3), np.int32)
    list_images(basis, turn, bins, vectors, shifts)
    sites, cards = np.empty((3, n_atoms)), np.empty((n_atoms, 4), np.int32)
    home, start = np.empty(n_atoms, np.int32), np.zeros(n_bins + 1, np.int32)
    bad = sort_atoms(positions, pbc, first, basis, turn, inverse, low, scale, bins, sites, cards, home, start)
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
    room = np.empty((len(begin), 2, USUAL * step), np.uint32)

    def search(a, b):
        t = a // step
        mine, base = given[offset[t] : offset[t + 1]], reach[0, t]
        return find_owned(a, b, cutoff, first, pbc, bins, vectors, sites, home, start, owned, mine, base, room[t])

    found = for_chunks(search, n_atoms, step)
    row = np.empty(n_atoms + 1, np.int64)
    counts = cards, owned, given, offset, reach, row
    for_chunks(lambda a, b: count_rows(a, b, *counts), n_atoms, step)
    sum_rows(row)
    n_pairs = int(row[-1])
    if n_pairs > MOST_PAIRS:
        raise InputError(f"{n_pairs} pairs in one list, {MOST_PAIRS} are allowed; use smaller batches of frames")
    for_chunks(lambda a, b: place_given(a, b, *counts), n_atoms, step)
    j, shift, mirror = np.empty(n_pairs, np.int32), np.empty((n_pairs, 3), np.int32), np.empty(n_pairs, np.int32)

    def write(a, b):
        t = a // step
        mine, (pairs, _) = given[offset[t] : offset[t + 1]], found[t]
        write_owned(a, b, cards, shifts, owned, pairs, mine, reach[0, t], row, j, shift, mirror)

    for_chunks(write, n_atoms, step)
    for_chunks(lambda a, b: write_taken(a, b, cards, shifts, owned, row, j, shift, mirror), n_atoms, step)
    return row, j, shift, mirror, float(np.sqrt(min(smallest for _, smallest in found)))


@inner
def square_distances(x, y, z, cx, cy, cz, d2):
    """d2[k] = distance of candidate k from c, squared."""
    for k in range(len(d2)):
        dx, dy, dz = x[k] - cx, y[k] - cy, z[k] - cz
        d2[k] = dx * dx + dy * dy + dz * dz


@inner
def choose(d2, limit, chosen):
    """Write the indices of all d2 below the limit; returns how many."""
    n = 0
    for k in range(len(d2)):  # no branch: which candidates stay cannot be predicted
        chosen[n] = k
        n += d2[k] < limit
    return n


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
    n, points (3, >= n) their places seen from bin b, tags (2, >= n) their sorted indices and images
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
    d2, chosen = np.empty((1, 512)), np.empty((1, 512), np.uint32)
    n_pairs, shortest = 0, np.inf
    f = np.searchsorted(first, begin, "right") - 1
    a = begin
    while a < end:
        while a >= first[f + 1]:
            f += 1
        last = min(end, start[home[a] + 1])
        n, points, tags = gather(a, home[a], f, pbc, bins, vectors, sites, start, points, tags)
        d2, chosen = more(d2, 0, n), more(chosen, 0, n)
        for s in range(a, last):
            k = s - a + 1
            x, y, z = points[0, k:n], points[1, k:n], points[2, k:n]
            square_distances(x, y, z, sites[0, s], sites[1, s], sites[2, s], d2[0, k:n])
            m = choose(d2[0, k:n], cutoff * cutoff, chosen[0])
            pairs = more(pairs, n_pairs, n_pairs + m)
            for q in range(m):
                c = k + chosen[0, q]
                shortest = min(shortest, d2[0, c])
                given[tags[0, c] - base] += 1
                pairs[0, n_pairs + q] = tags[0, c]
                pairs[1, n_pairs + q] = tags[1, c]
            n_pairs += m
            owned[s] = m
        a = last
    return pairs, shortest


@kernel
def count_rows(begin, end, cards, owned, given, offset, reach, row):
    """row[i + 1] = number of pairs of atom i, for the sorted atoms begin .. end."""
    for s in range(begin, end):
        row[cards[s, 3] + 1] = owned[s]
    for t in range(len(offset) - 1):
        for s in range(max(begin, reach[0, t]), min(end, reach[1, t])):
            row[cards[s, 3] + 1] += given[offset[t] + s - reach[0, t]]


@kernel
def sum_rows(row):
    """Turn numbers of pairs into places of the first ones."""
    row[0] = 0
    for i in range(len(row) - 1):
        row[i + 1] += row[i]


@kernel
def place_given(begin, end, cards, owned, given, offset, reach, row):
    """Turn the counts of every task into the place of the first pair it gives, for the sorted atoms begin .. end."""
    place = np.empty(end - begin, np.int64)
    for s in range(begin, end):
        place[s - begin] = row[cards[s, 3]] + owned[s]
    for t in range(len(offset) - 1):
        for s in range(max(begin, reach[0, t]), min(end, reach[1, t])):
            k = offset[t] + s - reach[0, t]
            count = given[k]
            given[k] = place[s - begin]
            place[s - begin] += count


@kernel
def write_owned(begin, end, cards, shifts, owned, pairs, given, base, row, j, shift, mirror):
    """Write the pairs that the sorted atoms begin .. end own.

    In the reduced cell the pair of s and the image m of t is shifted by m - wraps_t + wraps_s. The row of t gets a note
    (pair, s, m) where its own shift will stand: scattering less keeps to the cache.
    """
    n = 0
    for s in range(begin, end):
        p = row[cards[s, 3]]
        for k in range(n, n + owned[s]):
            t, m = pairs[0, k], pairs[1, k]
            q = np.uint32(given[t - base])
            given[t - base] += 1
            j[p], mirror[p] = cards[t, 3], q
            for c in range(3):
                shift[p, c] = shifts[m, c] - cards[t, c] + cards[s, c]
            shift[q, 0], shift[q, 1], shift[q, 2] = p, s, m
            p += 1
        n += owned[s]


@kernel
def write_taken(begin, end, cards, shifts, owned, row, j, shift, mirror):
    """Write the pairs of the sorted atoms begin .. end that others own, where `write_owned` left notes."""
    for t in range(begin, end):
        i = cards[t, 3]
        for p in range(row[i] + owned[t], row[i + 1]):
            s, m = np.uint32(shift[p, 1]), np.uint32(shift[p, 2])
            j[p], mirror[p] = cards[s, 3], shift[p, 0]
            for c in range(3):
                shift[p, c] = cards[t, c] - cards[s, c] - shifts[m, c]
