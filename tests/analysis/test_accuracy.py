"""Errors of predictions: numbers by hand, missing labels, and the file they go to."""

import json

import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from fastdesc import GaussianMoments
from fastdesc.analysis.accuracy import Comparison, compare, three_digits
from fastdesc.errors import FileFormatError, InputError
from fastdesc.potential.prediction import Prediction


class Fake:
    """A potential that says 1 eV per atom, no forces, and a stress of 1, 2, ..., 6 meV/Å^3."""

    descriptor, uncertainty = GaussianMoments(species=["Cu"]), None

    def predict(self, frames, device="cpu", dtype="float64", uncertainty=False):
        n = sum(map(len, frames))
        energy = np.array([float(len(a)) for a in frames])
        stress = np.tile(1e-3 * np.arange(1.0, 7.0), (len(frames), 1))
        return Prediction(energy, np.zeros((n, 3)), stress, np.ones(n))


def frames():
    out = []
    for k in range(3):
        atoms = bulk("Cu", cubic=True) * (1, 1, k + 1)
        forces = np.zeros((len(atoms), 3))
        forces[0, 0] = 0.4
        stress = 1e-3 * np.arange(1.0, 7.0)
        stress[4] += 0.006 * (k + 1)
        results = {"energy": len(atoms) * (1 + 0.1 * (k + 1)), "forces": forces, "stress": stress}
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


def test_errors_by_hand():
    c = compare(Fake(), frames())
    e = c.errors()
    assert e["energy"]["unit"] == "eV/atom" and e["energy"]["n"] == 3
    np.testing.assert_allclose([e["energy"][k] for k in ("mae", "rmse", "max")], [0.2, np.sqrt(0.14 / 3), 0.3])
    n = 3 * (4 + 8 + 12)
    assert e["forces"]["unit"] == "eV/Å" and e["forces"]["n"] == n
    np.testing.assert_allclose([e["forces"][k] for k in ("mae", "rmse")], [1.2 / n, np.sqrt(3 * 0.16 / n)])
    assert e["stress"]["unit"] == "eV/Å^3"
    np.testing.assert_allclose([e["stress"][k] for k in ("mae", "max")], [0.036 / 18, 0.018])
    json.dumps(c.summary(), allow_nan=False)
    assert c.summary()["n_frames"] == 3 and c.summary()["n_atoms"] == 24
    assert c.table().splitlines()[0] == "3 frames, 24 atoms"
    assert c.table().splitlines()[2].split() == ["energy", "200", "216", "300", "meV/atom"]


def test_missing_labels_do_not_count():
    data = frames()
    data[0].calc = None
    data[1].calc = SinglePointCalculator(data[1], energy=data[1].calc.results["energy"])
    e = compare(Fake(), data).errors()
    assert e["energy"]["n"] == 2 and e["forces"]["n"] == 36 and e["stress"]["n"] == 6
    for atoms in data:
        atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    assert list(compare(Fake(), data).errors()) == ["energy"]
    for atoms in data:
        atoms.calc = None
    with pytest.raises(InputError, match="none of the 3 frames carries an energy, forces or a stress"):
        compare(Fake(), data)


def test_predictions_that_are_not_finite_count():
    data = frames()
    found = vars(compare(Fake(), data))
    found["energy"][1] = np.inf
    found["forces"][0, 2] = np.nan
    found["stress"][2] = np.nan    # as of a frame without a volume
    e = Comparison(**found).errors()
    assert e["energy"]["mae"] == np.inf and e["energy"]["n"] == 3
    assert np.isnan(e["forces"]["max"]) and e["forces"]["n"] == 3 * (4 + 8 + 12)
    assert np.isfinite(e["stress"]["rmse"]) and e["stress"]["n"] == 12


def test_file(tmp_path):
    path = tmp_path / "p.h5"
    c = compare(Fake(), frames())
    c.save(path)
    again = Comparison.load(path)
    for name, array in vars(c).items():
        np.testing.assert_array_equal(getattr(again, name), array)
    with h5py.File(path) as f:
        assert f["reference_forces"].attrs["unit"].decode() == "eV/Å" and f["energy"].attrs["unit"] == b"eV"
        assert all(f[name].attrs["unit"] and f[name].attrs["shape"] for name in f)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "p.h5"
    compare(Fake(), frames()).save(path)
    with h5py.File(path, "r+") as f:
        del f["energy"]
    with pytest.raises(FileFormatError, match="is damaged"):
        Comparison.load(path)
    with h5py.File(path, "r+") as f:
        f.attrs["format_version"] = 99
    with pytest.raises(FileFormatError, match="upgrade"):
        Comparison.load(path)
    with h5py.File(path, "r+") as f:
        f.attrs["format"] = "fastdesc-features"
    with pytest.raises(FileFormatError, match="expected is 'fastdesc-predictions'"):
        Comparison.load(path)


@pytest.mark.parametrize("name", ["n_atoms", "energy", "reference_forces", "stress"])
@pytest.mark.parametrize("value", [1.5, b"words", np.zeros(0), np.zeros((2, 3)), [b"a", b"b", b"c"]], ids=repr)
def test_files_with_arrays_that_do_not_fit(tmp_path, name, value):
    path = tmp_path / "p.h5"
    compare(Fake(), frames()).save(path)
    with h5py.File(path, "r+") as f:
        del f[name]
        f[name] = value
    with pytest.raises(FileFormatError, match=f"is damaged .*{name}.* evaluate again"):
        Comparison.load(path)


@pytest.mark.parametrize(
    ("x", "text"),
    [(0, "0"), (1.0, "1.00"), (180.4, "180"), (999.4, "999"), (999.6, "1000"), (12345.6, "12346"), (0.012, "0.0120"),
     (2e-5, "2.0e-05")],
)
def test_digits(x, text):
    assert three_digits(x) == text
