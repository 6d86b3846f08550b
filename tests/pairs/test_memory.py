"""What would take more memory than is free is told before it is taken, with the estimate and the remedy."""

import numpy as np
import pytest
from ase.build import bulk

import fastdesc as fd
from fastdesc.backend import memory
from fastdesc.errors import InputError
from fastdesc.pairs import PAIR_BYTES, Pairs
from fastdesc.structures import Structures


@pytest.fixture
def little(monkeypatch):
    """A machine with 1 MB left."""
    monkeypatch.setattr(memory, "free", lambda: 1e6)
    monkeypatch.setattr(memory, "UNASKED", 1e5)


def test_pairs(little):
    """Copper has 0.0847 atoms in an Å^3: 4/3 pi r^3 of that is the number of neighbours of each."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    n = 32 * 0.0847 * 4 / 3 * np.pi * 60**3
    estimate = f"{n * PAIR_BYTES / 1e9:.1f}"
    with pytest.raises(InputError, match=rf"pairs of atoms within .* 60.0 Å .* about {estimate} GB, and 0.0 GB are"):
        Pairs.find(Structures.from_ase(atoms), 60.0)
    assert Pairs.find(Structures.from_ase(atoms), 4.0).n_pairs == 32 * 18
    descriptor = fd.GaussianMoments(species=["Cu"], cutoff=60.0)
    with pytest.raises(InputError, match="use a smaller cutoff, or fewer frames at a time"):
        descriptor.compute(atoms)


def test_features_and_jacobians(little, tmp_path):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    descriptor = fd.GaussianMoments(species=["Cu"], cutoff=4.0)
    for run in (
        lambda: descriptor.compute(atoms, jacobian=True),
        lambda: fd.featurize(atoms, tmp_path / "f.h5", descriptor, jacobian=True, progress=False),
    ):
        with pytest.raises(InputError, match=r"derivatives of \d+ features in .* blocks take about .* GB, and"):
            run()
    many = [atoms] * (1 + int(1e6 / (8 * 32 * descriptor.n_features)))
    with pytest.raises(InputError, match=r"features of \d+ atoms take about .* give fewer frames at a time, or"):
        descriptor.compute(many)


def test_what_is_free(tmp_path):
    info, limit, used = tmp_path / "meminfo", tmp_path / "max", tmp_path / "current"
    assert memory.free(info, ()) == np.inf
    info.write_text("MemTotal: 100 kB\nMemAvailable:   60 kB\n")
    assert memory.free(info, ((limit, used),)) == 61440
    limit.write_text("50000\n")
    used.write_text("20000\n")
    assert memory.free(info, ((limit, used),)) == 30000
    limit.write_text("max\n")
    assert memory.free(info, ((limit, used),)) == 61440
    assert memory.free() > 0
