"""Where atoms are: reduced cells, grids of bins over them, and the atoms sorted by bin."""

import numpy as np

from fastdesc.backend.jit import inner, kernel

MOST_IMAGES = 10**7
"""Periodic images of a cell within the cutoff."""
FARTHEST = 1e9
"""Cells an atom may be away from its own: two such numbers add up within int32."""
ROUNDING = 1e-12
FINEST = 3
"""Bins per cutoff tried at most."""
BINS_AN_ATOM, BINS_A_FRAME = 4, 32
"""Bins of a frame at most."""
TEST, GATHER, RUN = 0.4, 0.8, 20.0
"""Nanoseconds to test and to gather one candidate and to visit one run of bins, measured."""


@inner
def dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inner
def cross(a, b, out):
    out[0], out[1], out[2] = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@inner
def normalise(a):
    length = np.sqrt(dot(a, a))
    for c in range(3):
        a[c] /= length


@inner
def reduce_cell(cell, periodic, basis, turn):
    """basis = turn·cell with short vectors in the periodic directions and unit normals in the others.

    A strongly skewed cell has many images of itself within the cutoff; its reduced cell has few.
    """
    for d in range(3):
        for c in range(3):
            turn[d, c] = d == c and periodic[d]
            basis[d, c] = cell[d, c] if periodic[d] else 0.0
    changed = True
    while changed:
        changed = False
        for d in range(3):
            for e in range(3):
                if d != e and periodic[d] and periodic[e]:
                    m = dot(basis[d], basis[e]) / dot(basis[e], basis[e])
                    if abs(m) > 0.5 + 1e-6:
                        changed = True
                        for c in range(3):
                            turn[d, c] -= np.int64(np.rint(m)) * turn[e, c]
                        for c in range(3):
                            basis[d, c] = turn[d, 0] * cell[0, c] + turn[d, 1] * cell[1, c] + turn[d, 2] * cell[2, c]
    n_periodic = periodic[0] + periodic[1] + periodic[2]
    if n_periodic == 0:
        for d in range(3):
            basis[d, d] = 1.0
    elif n_periodic == 1:
        d = 0 if periodic[0] else (1 if periodic[1] else 2)
        e, f = (d + 1) % 3, (d + 2) % 3
        c = 0 if abs(basis[d, 0]) < abs(basis[d, 1]) else 1
        basis[f, c] = 1.0  # not along basis[d], where the smaller of two components stands
        cross(basis[d], basis[f], basis[e])
        normalise(basis[e])
        cross(basis[d], basis[e], basis[f])
        normalise(basis[f])
    elif n_periodic == 2:
        d = 2 if not periodic[2] else (1 if not periodic[1] else 0)
        cross(basis[(d + 1) % 3], basis[(d + 2) % 3], basis[d])
        normalise(basis[d])


@inner
def count_bins(heights, periodic, n_atoms, cutoff, bins):
    """Choose numbers of bins (bins[:3]) and of bins to either side that the cutoff reaches (bins[3:6])."""
    best = np.inf
    n, k = np.empty(3, np.int64), np.empty(3, np.int64)
    for fine in range(1, FINEST + 1):
        for d in range(3):
            n[d] = max(1.0, min(fine * heights[d] / cutoff + ROUNDING, 1e6))
        while n[0] * n[1] * n[2] > BINS_AN_ATOM * n_atoms + BINS_A_FRAME:
            d = 0 if n[0] >= max(n[1], n[2]) else (1 if n[1] >= n[2] else 2)
            n[d] = (n[d] + 1) // 2
        candidates = occupancy = np.float64(n_atoms)
        runs = 1.0
        for d in range(3):
            k[d] = np.ceil(min(cutoff * n[d] / max(heights[d], 1e-300) - ROUNDING, 1e6))
            if not periodic[d]:
                k[d] = min(k[d], n[d] - 1)
            part = (2 * k[d] + 1) / n[d]
            candidates *= part if periodic[d] else min(part, 1.0)
            occupancy /= n[d]
            runs *= 1 if d == 2 else 2 * k[d] + 1
        together = occupancy / (1 - np.exp(-occupancy))
        cost = candidates * (TEST + GATHER / together) + RUN * runs / together
        if cost < best:
            best = cost
            for d in range(3):
                bins[d], bins[3 + d] = n[d], k[d]


@inner
def plan(positions, cells, pbc, first, cutoff, basis, turn, inverse, low, scale, bins):
    """Lay a grid of bins over every frame; the bin of x along d is floor(scale_d (x·inverse_d - low_d)).

    Out: bins (n_frames, 11) numbers of bins, of bins within the cutoff to one side, first bin, first image, numbers of
    images to one side. Returns the numbers of bins and of images, and the frame that has too many images, or -1.
    """
    n_bins = n_images = 0
    heights = np.empty(3)
    for f in range(len(first) - 1):
        n_atoms = first[f + 1] - first[f]
        reduce_cell(cells[f], pbc[f], basis[f], turn[f])
        h, g = basis[f], inverse[f]
        for d in range(3):
            cross(h[(d + 1) % 3], h[(d + 2) % 3], g[d])
        volume = dot(h[0], g[0])
        for d in range(3):
            for c in range(3):
                g[d, c] /= volume
            low[f, d] = 0.0
            heights[d] = 1 / np.sqrt(dot(g[d], g[d]))
            if not pbc[f, d]:
                smallest, largest = np.inf, -np.inf
                for a in range(first[f], first[f + 1]):
                    x = dot(positions[a], g[d])
                    smallest, largest = min(smallest, x), max(largest, x)
                low[f, d] = smallest
                heights[d] = largest - smallest
        count_bins(heights, pbc[f], n_atoms, cutoff, bins[f])
        bins[f, 6] = n_bins
        n_bins += bins[f, 0] * bins[f, 1] * bins[f, 2]
        for d in range(3):
            scale[f, d] = bins[f, d] if pbc[f, d] else bins[f, d] / max(heights[d], 1e-300)
            bins[f, 8 + d] = (bins[f, 3 + d] + bins[f, d] - 1) // bins[f, d] if pbc[f, d] else 0
        bins[f, 7] = n_images
        n = (2 * bins[f, 8] + 1) * (2 * bins[f, 9] + 1) * (2 * bins[f, 10] + 1)
        if n > MOST_IMAGES:
            return n_bins, n_images, f
        n_images += n
    return n_bins, n_images, np.int64(-1)


@inner
def list_images(basis, turn, bins, vectors, shifts):
    """Write Cartesian vector and shift, in the cell as given, of all images of every frame's reduced cell."""
    for f in range(len(bins)):
        kx, ky, kz = bins[f, 8], bins[f, 9], bins[f, 10]
        n = bins[f, 7]
        for x in range(-kx, kx + 1):
            for y in range(-ky, ky + 1):
                for z in range(-kz, kz + 1):
                    for c in range(3):
                        vectors[n, c] = x * basis[f, 0, c] + y * basis[f, 1, c] + z * basis[f, 2, c]
                        shifts[n, c] = x * turn[f, 0, c] + y * turn[f, 1, c] + z * turn[f, 2, c]
                    n += 1


@inner
def sort_atoms(positions, pbc, first, basis, turn, inverse, low, scale, bins, sites, cards, home, start):
    """Wrap atoms into their reduced cells and sort them by bin; returns a frame that has an atom too far away, or -1.

    Out, in the new order: sites (3, n_atoms), cards (n_atoms, 4) what a pair asks of its neighbour: how far it was away
    in cells as given, and its index; home (n_atoms,) its bin; start (n_bins + 1,) the first atom of every bin.
    """
    n_atoms = len(positions)
    bin_of = np.empty(n_atoms, np.int32)
    away = np.empty((n_atoms, 3))
    for f in range(len(first) - 1):
        g = inverse[f]
        for a in range(first[f], first[f + 1]):
            k = 0
            for d in range(3):
                x = dot(positions[a], g[d])
                away[a, d] = np.floor(x) if pbc[f, d] else 0.0
                b = np.int64((x - away[a, d] - low[f, d]) * scale[f, d])
                k = k * bins[f, d] + min(max(b, 0), bins[f, d] - 1)
            bin_of[a] = bins[f, 6] + k
            start[bin_of[a] + 1] += 1
    for b in range(len(start) - 1):
        start[b + 1] += start[b]
    cursor = start[:-1].copy()
    for f in range(len(first) - 1):
        h, v = basis[f], turn[f]
        for a in range(first[f], first[f + 1]):
            s = cursor[bin_of[a]]
            cursor[bin_of[a]] = s + 1
            cards[s, 3] = a
            home[s] = bin_of[a]
            x, y, z = away[a, 0], away[a, 1], away[a, 2]
            for c in range(3):
                sites[c, s] = positions[a, c] - (x * h[0, c] + y * h[1, c] + z * h[2, c])
                w = x * v[0, c] + y * v[1, c] + z * v[2, c]
                if not abs(w) < FARTHEST:
                    return f
                cards[s, c] = w
    return -1


@kernel
def lay_grid(positions, cells, pbc, first, cutoff, bins, sites, cards, home, start):
    """Lay a grid of bins over every frame and sort the atoms into them.

    Out: bins as of `plan`; sites, cards, home as of `sort_atoms`, and start, which comes as zeros and may be longer.

    Returns
    -------
    vectors, shifts of images as of `list_images`; the first frame that cannot be searched, or -1; whether it has too
    many images, else an atom of it is too far away
    """
    n_frames = len(first) - 1
    basis, inverse, turn = np.empty((n_frames, 3, 3)), np.empty((n_frames, 3, 3)), np.empty((n_frames, 3, 3), np.int64)
    low, scale = np.empty((n_frames, 3)), np.empty((n_frames, 3))
    n_bins, n_images, bad = plan(positions, cells, pbc, first, cutoff, basis, turn, inverse, low, scale, bins)
    too_many = bad >= 0
    if too_many:
        n_bins = n_images = 0
    vectors, shifts, start = np.empty((n_images, 3)), np.empty((n_images, 3), np.int32), start[: n_bins + 1]
    if not too_many:
        list_images(basis, turn, bins, vectors, shifts)
        bad = sort_atoms(positions, pbc, first, basis, turn, inverse, low, scale, bins, sites, cards, home, start)
    return vectors, shifts, bad, too_many
