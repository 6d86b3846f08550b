"""Energies per atom of shaken copper crystals from pooled features: ridge and Gaussian-process regression.

    python examples/structure_regression.py

Labels come from ASE's EMT potential. Shows: StructureFeatures in pipelines and a grid search; a features file written
once and read back; a diverse subset of it, chosen by farthest points, to train on.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastdesc as fd


def crystals(n, seed):
    """Copper cells of 4 to 16 atoms, strained and shaken, labelled by EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * rng.integers(1, 3, 3).clip(1, 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.2), atoms.positions.shape)
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
        frames.append(atoms)
    return frames


def energies_per_atom(frames):
    """eV per atom."""
    return np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])


def main(n_train=200, n_test=100):
    """Run the example; return the mean absolute errors in eV per atom."""
    train, test = crystals(n_train, 0), crystals(n_test, 1)
    y, y_test = energies_per_atom(train), energies_per_atom(test)
    errors = {"mean of the training set": mean_absolute_error(y_test, np.full(n_test, y.mean()))}
    descriptor = fd.GaussianMoments(species=["Cu"], cutoff=5.0, n_radial=4, max_rank=2)

    # From structures to energies in one estimator, whose cutoff is searched like any other parameter.
    ridge = make_pipeline(fd.StructureFeatures(descriptor, pool="mean"), StandardScaler(), Ridge(1e-4))
    search = GridSearchCV(ridge, {"structurefeatures__descriptor__cutoff": [4.0, 5.0]}, cv=3)
    search.fit(train, y)
    errors["ridge, cutoff searched"] = mean_absolute_error(y_test, search.predict(test))

    # Features that are needed more than once are computed once, and stay on disk.
    with tempfile.TemporaryDirectory() as folder:
        path = fd.featurize(train, Path(folder) / "train.h5", descriptor, pool="mean", progress=False)
        with fd.open_features(path) as f:
            x = f[:]
            chosen, _ = fd.select_diverse(f, n_train // 4)
    x_test = fd.StructureFeatures(descriptor, pool="mean").transform(test)
    kernel = ConstantKernel(100.0, (1e-2, 1e6)) * RBF(50.0, (10.0, 1e3)) + WhiteKernel(1e-3, (1e-7, 1e-1))
    subsets = {
        "Gaussian process, all": np.arange(n_train),
        "Gaussian process, diverse quarter": chosen,
        "Gaussian process, random quarter": np.random.default_rng(2).choice(n_train, n_train // 4, replace=False),
    }
    for name, rows in subsets.items():
        model = make_pipeline(StandardScaler(), GaussianProcessRegressor(kernel, normalize_y=True))
        errors[name] = mean_absolute_error(y_test, model.fit(x[rows], y[rows]).predict(x_test))

    for name, error in errors.items():
        print(f"{name:36} {1000 * error:8.2f} meV/atom")
    return errors


if __name__ == "__main__":
    main()
