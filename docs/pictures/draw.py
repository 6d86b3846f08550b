"""Draw the pictures of the theory pages, from the program's own functions.

    python docs/pictures/draw.py
"""

from pathlib import Path

import matplotlib
import numpy as np
from ase import Atoms

import fastdesc as fd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

THEORY = Path(__file__).resolve().parents[1] / "theory"
CUTOFF = 6.0
DISTANCES = np.linspace(0.3, CUTOFF + 0.3, 400)


def dimers():
    """Two copper atoms at every distance."""
    return [Atoms("Cu2", positions=[[0, 0, 0], [r, 0, 0]]) for r in DISTANCES]


def bases():
    """f_c g_b / sqrt(N_b) of both bases: the rank-0 moments of a dimer, with beta the unit matrix."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True)
    for axis, basis in zip(axes, ("bessel", "gaussian"), strict=True):
        d = fd.GaussianMoments(species=["Cu"], cutoff=CUTOFF, n_radial=8, n_basis=8, basis=basis, contractions=[1])
        d.set_parameters(beta=np.eye(8)[None, None])
        axis.plot(DISTANCES, d.compute(dimers())[::2, :5])
        axis.set(title=f'basis="{basis}"', xlabel="r, Å")
        axis.axvline(CUTOFF, color="0.7", lw=0.8)
    axes[0].set_ylabel("radial function")
    save(figure, "gaussian-moments-radial.png")


def orbitals():
    """f_c R_k as made: the square roots of the degree-0 features of a dimer, with coefficients of one."""
    d = fd.EmbeddedDensity(species=["Cu"], cutoff=CUTOFF, n_radial=8, l_max=0, contraction="none")
    d.set_parameters(coefficients=np.ones((1, 8)))
    figure, axis = plt.subplots(figsize=(5, 3))
    axis.plot(DISTANCES, np.sqrt(d.compute(dimers())[::2]))
    axis.axvline(CUTOFF, color="0.7", lw=0.8)
    axis.set(xlabel="r, Å", ylabel="radial function")
    save(figure, "embedded-density-radial.png")


def splines():
    """A pair filter, and the same one with one knot moved."""
    d = fd.SplineFilters(species=["Cu"], cutoff=CUTOFF, triplet_cutoff=5.0, r_min=1.5, n_pair=1, n_triplet=0, seed=3)
    grid, values = d.spline("pair", 0, 0), d.parameters["pair"].copy()
    figure, axis = plt.subplots(figsize=(5, 3))
    axis.plot(DISTANCES, d.compute(dimers())[::2, 0], label="filter")
    axis.plot(grid.knots, np.append(values[0, 0, : grid.n_knots - 1], 0.0), "o", color="C0", ms=4)
    values[0, 0, 5] += 0.5
    d.set_parameters(pair=values)
    axis.plot(DISTANCES, d.compute(dimers())[::2, 0], "--", label="one knot moved")
    for x in (grid.x0, grid.x1):
        axis.axvline(x, color="0.7", lw=0.8)
    axis.set(xlabel="r, Å", ylabel="pair filter")
    axis.legend(frameon=False)
    save(figure, "spline-filters-spline.png")


def save(figure, name):
    """Write a picture beside the page that shows it."""
    figure.savefig(THEORY / name, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    bases()
    orbitals()
    splines()
