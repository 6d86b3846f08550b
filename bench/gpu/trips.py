"""How often the loops of kernels run, by the text of the loop; for bench/gpu/sass.py.

A loop that is not in the table is an error: whoever writes one says here how often it runs. Each entry returns the
turns of one warp each time it reaches the loop, as a list whose members are equally frequent.
"""

import re
from dataclasses import dataclass
from math import ceil, log2, pi

from fastdesc.descriptors.gaussian_moments.large_list import AROUND, THREADS
from fastdesc.descriptors.gaussian_moments.large_system import STAGED, WIDTH
from fastdesc.descriptors.gaussian_moments.radial_table import KNOTS
from fastdesc.potential.large_network import rows_of_features

PER_TILE, CONTRACT_WARPS = 32, 8


@dataclass(frozen=True)
class Model:
    """What the trips of a launch depend on.

    Attributes
    ----------
    n_atoms, pairs, close : numbers
        Atoms; pairs of an atom; neighbours of an atom within the cutoff of triplets.
    d : descriptor
    width : int
        Radial functions or filters that the kernel takes at a time; 1 if it does not say.
    item : int
        Bytes of a scalar of the kernel, its tangent included.
    warps, slabs, atoms_a_warp : numbers
        Warps of a block; blocks along y; atoms that one warp does after each other.
    terms : int
        Length of the sums of a layer.
    """

    n_atoms: int
    pairs: int
    close: int
    d: object
    width: int
    item: int
    warps: int
    slabs: int
    atoms_a_warp: float
    terms: int

    @classmethod
    def of(cls, launch, d, n_atoms, pairs, close, terms):
        threads = launch.block[0]
        width = re.search(r", (\d+)>$", launch.name)
        item = (4 if "float" in launch.name else 8) * (1 + ("<Dual" in launch.name))
        blocks = launch.grid[0]
        return cls(n_atoms, round(pairs), round(close), d, int(width[1]) if width else 1, item, threads // 32,
                   launch.grid[1], n_atoms / (blocks * threads / 32), terms)  # fmt: skip

    def tiles(self, group=1, n=None):
        """Turns of a warp through each 32 pairs of an atom, `group` at a time."""
        n = self.pairs if n is None else n
        return [ceil(min(PER_TILE, n - at) / group) for at in range(0, n, PER_TILE)]

    @property
    def n_tiles(self):
        return [ceil(self.pairs / PER_TILE)]

    @property
    def handed_over(self):
        """Turns in which a block hands over the moments, or takes the cotangents, of its atoms."""
        return [ceil(20 * self.width / 32)]

    @property
    def in_a_bin(self):
        """Atoms of a cube as thick as the cutoff."""
        return self.pairs / (4 / 3 * pi)

    @property
    def n_radial(self):
        return self.d.n_radial

    @property
    def tuples(self):
        """Lengths of a loop from r to the last channel, for all r."""
        return [self.n_radial - r for r in range(self.n_radial)]

    @property
    def groups(self):
        """Monomials of each group of one weight, embedded densities."""
        return [1, 3, 3, 3, 3, 3, 3, 1][: {0: 1, 1: 2, 2: 4, 3: 8}[self.d.l_max]]

    @property
    def pair_slabs(self):
        """Share of the blocks of sf_features that do pairs."""
        slabs = ceil(self.d.n_pair / self.width)
        return slabs / (slabs + ceil(self.d.n_triplet / self.width))

    def shared_out(self, jobs, warps=CONTRACT_WARPS):
        """Jobs of each warp of a block."""
        return [ceil((jobs - w) / warps) if jobs > w else 0 for w in range(warps)]


def unused_functions(m):
    """Functions whose code the model never runs."""
    return {{"bessel": "each_gaussian", "gaussian": "each_bessel"}.get(getattr(m.d, "basis", None))}


def _rest_of(m, caller):
    """Turns of loops over the last channel of a tuple: all of them, or those from s on."""
    if not re.search(r", (RANK\d, )?s\)", caller):
        return [m.n_radial]
    in_order = "set_all" in caller
    n = m.n_radial
    return [n - s for r in range(n) for s in range(r, n)] if in_order else [n - s for s in range(n)]


def _of_degree(m):
    """Turns over the monomials of a group, where only groups of one degree count; for all pairs of them."""
    degree = [0, 1, 2, 2, 3, 3, 3, 3]
    return [size if degree[g] == n else 0 for n in range(m.d.l_max + 1) for g, size in enumerate(m.groups)]


def _filter_tiles(m, function):
    share = 1 - m.pair_slabs if function == "sf_features" else 1.0
    return [share * ceil(m.close / PER_TILE)]


TRIPS = {
    # a warp an atom, its lanes the pairs
    "for (long long p0 = own.begin; p0 < own.end; p0 += 32)": lambda m, f, c: m.n_tiles,
    "for (long long p = own.begin + lane; p < own.end; p += 32)": lambda m, f, c: [
        m.n_tiles[0] * (m.pair_slabs if f == "sf_features" else 1)
    ],
    "for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32)": lambda m, f, c: m.n_tiles,
    "for (long long p = row[i] + lane; p < row[i + 1]; p += 32)": lambda m, f, c: m.n_tiles,
    "for (int q = group; q < pairs; q += GROUPS)": lambda m, f, c: m.tiles(8),
    "for (int q = start + group; q < stop; q += groups)": lambda m, f, c: m.tiles(4 if m.d.n_basis <= 8 else 2),
    "for (int q = 0; q < pairs; ++q)": lambda m, f, c: m.tiles(),
    "while (all)": lambda m, f, c: [1],
    "for (int a = 0; a < atoms_per_warp; ++a)": lambda m, f, c: [m.atoms_a_warp],
    "for (int slab = 0; slab < n_radial; slab += NR)": lambda m, f, c: [ceil(m.n_radial / m.width)],
    "for (int o = threadIdx.x; o < W * N_MOMENTS * NR; o += PAIR_THREADS<S>)": lambda m, f, c: m.handed_over,
    "for (int o = threadIdx.x; o < WARPS<S> * N_MOMENTS * NR; o += PAIR_THREADS<S>)": lambda m, f, c: m.handed_over,
    # a thread an atom
    "for (int k = 0; k < own.count; ++k)": lambda m, f, c: [m.pairs],
    "for (int slab = 0; slab * NR < n_radial; ++slab)": lambda m, f, c: [ceil(m.n_radial / WIDTH)],
    "for (int x = threadIdx.x; x < size; x += ATOM_THREADS)": lambda m, f, c: [_staged(m)],
    "for (long long p = row[i]; p < row[i + 1]; ++p)": lambda m, f, c: [m.pairs],
    "for (int k = 0; k < count[a]; ++k)": lambda m, f, c: [m.pairs],
    "for (int around = 0; around < AROUND; ++around)": lambda m, f, c: [AROUND],
    "for (; k > 0 && out[2 * k - 2] > first; --k)": lambda m, f, c: [AROUND / 4],
    "for (; found < AROUND; ++found)": lambda m, f, c: [0],
    "for (int b = range[2 * around]; b < range[2 * around + 1]; ++b)": lambda m, f, c: [m.in_a_bin],
    "while (n > 0)": lambda m, f, c: [ceil(log2(m.pairs if f == "gm_large_mirrors" else m.n_atoms))],
    # radial functions
    "for (int b = 0; b < n_basis; ++b)": lambda m, f, c: [m.d.n_basis],
    # contractions of Gaussian moments: a warp's share of the channels, one kind of job a turn
    "for (Jobs<S> jobs(4, n_radial); jobs.left(); jobs.next())": lambda m, f, c: [_channels(m)],
    "for (Jobs<S> jobs(3, n_radial); jobs.left(); jobs.next())": lambda m, f, c: [_channels(m)],
    "while (left() && channel() >= n_radial)": lambda m, f, c: [0],
    "for (int row = threadIdx.x / ATOMS<S>; row < rows; row += blockDim.x / ATOMS<S>)": lambda m, f, c: [
        ceil(m.n_radial * m.d.n_moments * 128 / m.item / (32 * m.warps))
    ],
    "for (int t = begin; t < M.n; ++t)": lambda m, f, c: _rest_of(m, c),
    "for (int s = r; s < n; ++s)": lambda m, f, c: m.tuples,
    "for (int s = 0; s < n; ++s)": lambda m, f, c: [m.n_radial],
    "for (int t = 0; t < n; ++t)": lambda m, f, c: [m.n_radial],
    # a network on tensor cores: blocks stay, so that weights are read once for all of their atoms
    "for (int k = threadIdx.x; k < kept.delta - kept.w1; k += NETWORK_THREADS)": lambda m, f, c: [0],
    "for (long long i0 = (long long)blockIdx.x * TOGETHER; i0 < n_atoms; i0 += (long long)gridDim.x * TOGETHER)":
        lambda m, f, c: [m.warps * m.atoms_a_warp / 32],
    "for (int row = n_features + threadIdx.x / TOGETHER; row < rows; row += NETWORK_WARPS)": lambda m, f, c: [
        ceil((_rows(m) - m.d.n_features) / m.warps)
    ],
    "for (Jobs<float> jobs(4, M.n); jobs.left(); jobs.next())": lambda m, f, c: [m.n_radial / m.warps],
    "for (Jobs<float> jobs(3, M.n); jobs.left(); jobs.next())": lambda m, f, c: [m.n_radial / m.warps],
    "for (int k = 8 * part; k < rows; k += 8 * PARTS)": lambda m, f, c: [_rows(m) / 32],
    "for (int feature = 16 * (w / 2); feature < rows; feature += 16 * (NETWORK_WARPS / 2))": lambda m, f, c: [
        _rows(m) / 128
    ],
    "for (int k = threadIdx.x; k < HIDDEN * TOGETHER; k += NETWORK_THREADS)": lambda m, f, c: [4],
    # embedded densities
    "for (int m = owner * FEATURES; m < n_features; m += OWNERS<S> * FEATURES)": lambda m, f, c: (
        m.shared_out(ceil(m.d.n_features / 4), 2 * m.item)
    ),
    "for (int k = threadIdx.x / A; k < n_radial; k += OWNERS)": lambda m, f, c: m.shared_out(m.n_radial, 2 * m.item),
    "for (int c = 0; c < n_moments; ++c)": lambda m, f, c: [m.d.n_moments],
    "for (int k0 = 0; k0 < n_radial; k0 += SLAB)": lambda m, f, c: [ceil(m.n_radial / (4 if m.item > 8 else 8))],
    "for (int group = 1; group < triples_end(l_max); ++group)": lambda m, f, c: [m.groups.count(3)],
    "for (int group = 0; group < groups_of(l_max); group += LONE_STEP)": lambda m, f, c: [m.groups.count(1)],
    "for (int group = 0; group < groups_of(l_max); ++group)": lambda m, f, c: [len(m.groups)],
    "for (int k = 0; k < n_radial; ++k)": lambda m, f, c: [m.n_radial],
    "for (int s = 0; s < n_radial; ++s)": lambda m, f, c: [m.n_radial],
    "for (int v = 0; v < size_of(group); ++v)": lambda m, f, c: (
        m.groups if f == "ed_squares_pullback" else _of_degree(m)
    ),
    "for (int l = 0; l <= l_max; ++l)": lambda m, f, c: [m.d.l_max + 1],
    "for (int k = threadIdx.x / ATOMS; k < n_radial; k += CONTRACT_WARPS)": lambda m, f, c: m.shared_out(m.n_radial),
    "for (int row = threadIdx.x / ATOMS; row < rows; row += CONTRACT_WARPS)": lambda m, f, c: m.shared_out(
        (m.d.l_max + 1) * m.n_radial * (m.n_radial + 1) // 2
    ),
    "while (k2 >= n_radial - k)": lambda m, f, c: [k for k in range(m.n_radial) for _ in range(m.n_radial - k)],
    "for (int t0 = 0; t0 <= n_later; t0 += AT_ONCE)": lambda m, f, c: [ceil((1 + m.d.iterations) / _at_once(m))],
    "for (int t = t0; t < t1; ++t)": lambda m, f, c: _iterations(m),
    "for (int t = 0; t <= n_later; ++t)": lambda m, f, c: [1 + m.d.iterations],
    "for (int o = threadIdx.x; o < W * (t1 - t0) * N_MOMENTS * NR; o += PAIR_THREADS<S>)": lambda m, f, c: [
        ceil(n * 20 * m.width / 32) for n in _iterations(m)
    ],
    "for (int c = part; c < n_moments; c += PARTS)": lambda m, f, c: [ceil(m.d.n_moments / 4)],
    "for (int x0 = 0; x0 < n_moments * n_radial; x0 += 32)": lambda m, f, c: [ceil(m.d.n_moments * m.n_radial / 32)],
    "for (int y = w; y < 32; y += TURN_THREADS / 32)": lambda m, f, c: [4],
    # spline filters
    "for (long long pj = own.begin; pj < own.end;)": lambda m, f, c: _filter_tiles(m, f),
    "for (long long pk = own.begin; pk < own.end;)": lambda m, f, c: [ceil(m.close / PER_TILE)],
    "while (pk < own.end)": lambda m, f, c: [ceil(m.close / PER_TILE)],
    "while (p < own.end && count < 32)": lambda m, f, c: [m.n_tiles[0] / ceil(m.close / PER_TILE)],
    "for (int k = 0; k < count; ++k)": lambda m, f, c: m.tiles(n=m.close),
    "for (int g = 0; g < n_groups; ++g)": lambda m, f, c: [1],
    "for (int a = g * group; a < (g + 1) * group; ++a)": lambda m, f, c: [m.d.n_pair],
    "for (int slab = 0; slab < n_triplet; slab += NB)": lambda m, f, c: [ceil(m.d.n_triplet / m.width)],
    "for (int slab = g * group; slab < end; slab += NB)": lambda m, f, c: [ceil(m.d.n_pair / m.width)],
    "for (; all; all &= all - 1)": lambda m, f, c: _lanes(m, c),
    # networks
    "for (int start = 0; start < n_terms; start += DEPTH)": lambda m, f, c: [ceil(m.terms / 64)],
    "for (int at = threadIdx.x; at < TILE * DEPTH; at += THREADS)": lambda m, f, c: [4],
    "for (int k = 0; k < DEPTH; ++k)": lambda m, f, c: [64],
    "for (int row = own_part(); row < width; row += PARTS)": lambda m, f, c: [ceil(m.terms / 8)],
    # sums over frames
    "for (long long a = first[frame] + threadIdx.x; a < end; a += 4 * blockDim.x)": lambda m, f, c: [
        ceil(m.n_atoms / (4 * 32 * m.warps))
    ],
    "for (int w = 0; w < blockDim.x / 32; ++w)": lambda m, f, c: [1],
}


def _rows(m):
    """Rows of features in large_network.cu."""
    return rows_of_features(m.d.n_features)[0]


def _staged(m):
    """Turns in which a block keeps the radial table of large systems in shared memory, where that fits."""
    size = len(m.d.species_numbers) ** 2 * (KNOTS * m.d.n_basis + 1) * WIDTH
    return ceil(size / THREADS) if 16 * size <= STAGED else 0


def _channels(m):
    """Rounds over the channels, of which a warp takes 32 item / 128 at a time, shared out among the warps."""
    return ceil(m.n_radial / (32 * m.item // 128)) / m.warps


def _iterations(m):
    """Iterations that are in shared memory together."""
    n, step = 1 + m.d.iterations, _at_once(m)
    return [min(step, n - t) for t in range(0, n, step)]


def _at_once(m):
    """AT_ONCE of the kernels of a family."""
    return 2 if hasattr(m.d, "n_basis") else 4


def _lanes(m, caller):
    """Lanes of a tile whose cotangents are added one after the other."""
    if "dangular" in caller:    # of one neighbour k: the lanes before it
        return [(m.close - 1) / 2]
    return m.tiles() if "dpair" in caller else m.tiles(n=m.close)


def trips_of(text, function, caller, model):
    """Turns of a loop with that text in a function that the line `caller` called.

    Raises
    ------
    LookupError
        For a loop that is not in TRIPS.
    """
    text = text.replace("given.", "")    # the struct of a kernel's scalars
    if text not in TRIPS:
        raise LookupError(f"bench/gpu/trips.py does not say how often {text!r} in {function} runs; add a line there")
    return TRIPS[text](model, function, caller)
