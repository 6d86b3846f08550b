"""The cutoff that a data set suggests: perfect crystals, whose shells are known, and the limits."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import fastdesc as fd
from fastdesc import choose_cutoff
from fastdesc.training.streamed_frames import open_streamed


def test_crystals_get_the_shell_that_follows_fifty_neighbours():
    """Fcc has shells of 12, 6, 24 and 12, the last at sqrt(2) a; bcc of 8, 6, 12, 24 and 8, the last at sqrt(3) a."""
    assert choose_cutoff([bulk("Cu", "fcc", a=3.6)]) == pytest.approx(np.round(2**0.5 * 3.6, 1))
    assert choose_cutoff([bulk("Fe", "bcc", a=2.87)] * 3) == pytest.approx(np.round(3**0.5 * 2.87, 1))


def test_limits():
    assert choose_cutoff([bulk("Cu", "fcc", a=2.2)]) == 4.0
    assert choose_cutoff([bulk("Cu", "fcc", a=5.5)]) == 6.0
    assert choose_cutoff([molecule("C6H6"), molecule("CH4")]) == 5.0
    assert choose_cutoff([molecule("C6H6"), Atoms("H", cell=[9.0] * 3, pbc=True)]) == 6.0


def test_frames_on_the_disk_get_what_frames_in_memory_get(tmp_path):
    frames = [bulk("Cu", "fcc", a=a, cubic=True) for a in np.linspace(3.2, 4.4, 80)]
    fd.convert(frames, tmp_path / "frames.h5", progress=False)
    streamed = open_streamed(tmp_path / "frames.h5", 0.0)
    assert 4.0 < choose_cutoff(streamed) == choose_cutoff(frames) == fd.choose_cutoff(tmp_path / "frames.h5") < 6.0


def test_what_are_no_frames_with_atoms_is_told():
    with pytest.raises(fd.FastdescError, match="frames hold no atoms, which decide the cutoff"):
        choose_cutoff([Atoms(), Atoms()])
    with pytest.raises(fd.FastdescError, match="member 0 of the list is a int"):
        choose_cutoff([5])
    assert choose_cutoff(bulk("Cu", "fcc", a=5.5)) == choose_cutoff([Atoms(), bulk("Cu", "fcc", a=5.5)]) == 6.0
