"""Short-range repulsion of nuclei, below whatever a network has learnt.

The universal potential of Ziegler, Biersack and Littmark (The Stopping and Range of Ions in Solids, 1985), smoothly
joined to zero:

    phi(d) = k Z_i Z_j / d  sum_n c_n exp(-b_n d / a) + S(d),    a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23)          (1)
    S(d)   = C  below `inner`,    C + A/3 (d - inner)^3 + B/4 (d - inner)^4  up to `outer`                      (2)

with A, B and C such that phi and its first two derivatives vanish at `outer`, beyond which it is zero: that is LAMMPS'
pair style zbl. Here `outer` is 0.75 times the sum of the covalent radii of the two elements, or the cutoff where that
is smaller, and `inner` half of it. That is below the lengths of bonds: a repulsion that reached into them would have to
be learnt away.

    E_i = 1/2 sum_p phi(d_p),    F_i = sum_p phi'(d_p) r_p / d_p,    W_i = 1/2 sum_p phi'(d_p) r_p (x) r_p / d_p    (3)

over the pairs p in row i. Each row needs its own pairs alone: this serves lists with ghosts as they are. Everything is
float64 in any model. Twin: kernels/potential/repulsion.cu.
"""

import numpy as np
from ase.data import covalent_radii

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace, to_device
from fastdesc.backend.jit import inner, kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.checks import brief
from fastdesc.errors import InputError
from fastdesc.geometry import frame_sums
from fastdesc.pairs import Pairs

FILE = "potential/repulsion.cu"
KINDS = ("zbl",)
COULOMB = 14.399645
"""k of (1), eV Å: e² / 4 pi epsilon_0."""
WEIGHTS = 0.02817, 0.28022, 0.50986, 0.18175
RATES = 0.20162, 0.40290, 0.94229, 3.19980
"""c_n and b_n of (1)."""
REACH = 0.75
"""outer / sum of covalent radii."""
JOINED_FROM = 0.5
"""inner / outer."""
COLUMNS = 8
"""Of a table: k Z_i Z_j, 1 / a, inner, outer, A, B, C, and a place that is empty."""
ATOMS, WARPS = 512, 4
"""Atoms that a thread takes at a time, and atoms per block on a GPU."""
AT_ONCE = 1 << 14
"""Atoms whose pairs are found at a time where there is no list."""


class Repulsion:
    """The repulsion of all pairs of some elements.

    Parameters
    ----------
    numbers : sequence of int
        Atomic numbers, in the order of the species.
    cutoff : float
        Å, the largest `outer`.
    radii : (n_species,) array, optional
        Å, whose sums are `outer`, instead of 0.75 times the covalent radii.
    joined_from : float
        inner / outer.

    Attributes
    ----------
    table : (n_species, n_species, COLUMNS) float64 array
    reach : float
        Å, the largest `outer`.
    """

    def __init__(self, numbers, cutoff, radii=None, joined_from=JOINED_FROM):
        z = np.array(numbers, float)
        radii = REACH * covalent_radii[list(numbers)] if radii is None else np.asarray(radii, float)
        outer = np.minimum(radii[:, None] + radii, cutoff)
        start = joined_from * outer
        screening = 0.46850 / (z[:, None] ** 0.23 + z**0.23)
        strength = COULOMB * z[:, None] * z
        e, e1, e2 = screened(outer, strength, 1 / screening)
        width = outer - start
        a = (-3 * e1 + width * e2) / width**2
        b = (2 * e1 - width * e2) / width**3
        c = -e + width * e1 / 2 - width**2 * e2 / 12
        self.table = np.stack([strength, 1 / screening, start, outer, a, b, c, 0 * c], axis=-1)
        self.reach = float(outer.max())
        self._on_device = None

    def _table_like(self, x):
        """The table where an array is."""
        if namespace(x) is np:
            return self.table
        if self._on_device is None:
            self._on_device = to_device(self.table, "cuda")
        return self._on_device

    def of_atoms(self, positions, cells, pairs, species):
        """Formula (3) for the rows of a list that reaches at least as far.

        Parameters
        ----------
        positions : float64 (n_atoms, 3), Å
        cells : float64 (n_frames, 3, 3), Å
        pairs : Pairs
            Or the `centres` of a list with ghosts.
        species : int32 (n_atoms,)

        Returns
        -------
        energies : float64 (n_centres,), eV
        forces : float64 (n_atoms, 3), eV/Å
            Zero on ghosts: each domain has those on its own atoms whole.
        virials : float64 (9, n_centres), eV
        """
        xp = namespace(positions)
        n, n_all = pairs.n_atoms, pairs.whole.n_atoms
        energies, forces, virials = xp.zeros(n), xp.zeros((n_all, 3)), xp.zeros((9, n))
        positions, cells = xp.ascontiguousarray(positions, np.float64), xp.ascontiguousarray(cells, np.float64)
        shift = np.zeros((0, 3), np.int32) if pairs.shift is None else pairs.shift
        table = self._table_like(positions)
        arrays = (
            pairs.row, pairs.j, shift, pairs.frame, positions, cells, species, table, energies, forces, virials
        )  # fmt: skip
        if cuda.active_for(pairs.j):
            scalars = {"n_atoms": n, "n_species": len(self.table), "virials_stride": cuda.row_stride(virials)}
            cuda.launch(FILE, "repulsion_zbl", n, WARPS, 32 * WARPS, arrays, **scalars)
        else:
            for_chunks(repulsion_zbl, n, ATOMS, after=arrays)
        return energies, forces, virials

    def evaluate(self, positions, cells, pairs, species):
        """As `of_atoms`, with virials of frames, (n_frames, 3, 3)."""
        energies, forces, virials = self.of_atoms(positions, cells, pairs, species)
        return energies, forces, frame_sums(virials, pairs).reshape(-1, 3, 3)

    def of_structures(self, structures, species):
        """Energies and forces of the atoms of structures on the host, and virials of the frames, as `evaluate`."""
        found = []
        for block in structures.blocks(AT_ONCE):
            pairs = Pairs.find(block, self.reach)
            found.append(self.evaluate(block.positions, block.cells, pairs, species[: block.n_atoms]))
            species = species[block.n_atoms :]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def gradient(self, rij, pairs, species):
        """Half of phi' r / d of every pair, (3, n_pairs) eV/Å: derivatives of the energy by the pair vectors."""
        _, within, n, first, _ = self._derivatives(rij, pairs, species)
        return 0.5 * within * first * n

    def curvature(self, rij, trij, pairs, species):
        """Half of the change of phi' r / d of every pair along the tangents of the pair vectors, (3, n_pairs) eV/Å."""
        d, within, n, first, second = self._derivatives(rij, pairs, species)
        along = (n * trij).sum(axis=0)
        return 0.5 * within * (second * along * n + first / d * (trij - along * n))

    def _derivatives(self, rij, pairs, species):
        """Distances, whether they are within, unit vectors, and phi' and phi'' of every pair."""
        xp = namespace(rij)
        owner = xp.searchsorted(pairs.row, xp.arange(rij.shape[1]), side="right") - 1
        t = self._table_like(rij)[species[owner], species[pairs.j]].T
        d = xp.sqrt((rij**2).sum(axis=0))
        _, first, second = screened(d, t[0], t[1])
        x = xp.maximum(d - t[2], 0.0)
        first, second = first + x**2 * (t[4] + x * t[5]), second + x * (2 * t[4] + 3 * x * t[5])
        return d, d < t[3], rij / d, first, second


def repulsion_of(kind, descriptor):
    """The Repulsion that a potential over a descriptor has; None for None, InputError for another word than "zbl"."""
    if kind is None:
        return None
    if not (isinstance(kind, str) and kind in KINDS):
        raise InputError(f'repulsion came as {brief(kind)}; give "zbl", or leave it out')
    return Repulsion(descriptor.species_numbers, descriptor.cutoff)


def screened(d, strength, rate):
    """Formula (1) without S, and its first two derivatives with respect to d."""
    xp = namespace(d)
    f = f1 = f2 = 0.0
    for c, b in zip(WEIGHTS, RATES, strict=True):
        e = c * xp.exp(-b * rate * d)
        f, f1, f2 = f + e, f1 - b * rate * e, f2 + (b * rate) ** 2 * e
    s = strength / d
    return s * f, s * (f1 - f / d), s * (f2 - 2 * f1 / d + 2 * f / d**2)


@inner
def joined(d, t):
    """phi and phi' of (1) and (2) at a distance below `outer`; t is a row of the table."""
    f = f1 = 0.0
    for n in range(4):
        b = RATES[n] * t[1]
        e = WEIGHTS[n] * np.exp(-b * d)
        f += e
        f1 -= b * e
    s = t[0] / d
    x = max(d - t[2], 0.0)
    energy = s * f + t[6] + x * x * x * (t[4] / 3 + x * t[5] / 4)
    return energy, s * (f1 - f / d) + x * x * (t[4] + x * t[5])


@kernel
def repulsion_zbl(first, last, row, j, shift, frame, positions, cells, species, table, energies, forces, virials):
    """Formula (3) for the rows first .. last; without shifts where `shift` is empty."""
    for i in range(first, last):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        h = cells[frame[i]]
        energy = fx = fy = fz = 0.0
        xx = yy = zz = yz = xz = xy = 0.0
        for p in range(row[i], row[i + 1]):
            n = j[p]
            u, v, w = positions[n, 0] - x, positions[n, 1] - y, positions[n, 2] - z
            if len(shift):
                a, b, c = np.float64(shift[p, 0]), np.float64(shift[p, 1]), np.float64(shift[p, 2])
                u += a * h[0, 0] + b * h[1, 0] + c * h[2, 0]
                v += a * h[0, 1] + b * h[1, 1] + c * h[2, 1]
                w += a * h[0, 2] + b * h[1, 2] + c * h[2, 2]
            t = table[species[i], species[n]]
            square = u * u + v * v + w * w
            if square < t[3] * t[3]:
                d = np.sqrt(square)
                value, slope = joined(d, t)
                energy += 0.5 * value
                g = slope / d
                fx += g * u
                fy += g * v
                fz += g * w
                g *= 0.5
                xx += g * u * u
                yy += g * v * v
                zz += g * w * w
                yz += g * v * w
                xz += g * u * w
                xy += g * u * v
        energies[i] = energy
        forces[i, 0], forces[i, 1], forces[i, 2] = fx, fy, fz
        virials[0, i], virials[1, i], virials[2, i] = xx, xy, xz
        virials[3, i], virials[4, i], virials[5, i] = xy, yy, yz
        virials[6, i], virials[7, i], virials[8, i] = xz, yz, zz
