"""Resuming looks again: at frames that were skipped, and at labels."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from helpers.featurizing import Fake, frames
from test_kill import content

from fastdesc.errors import InputError
from fastdesc.features import featurize, open_features


def ids(path):
    with open_features(path) as f:
        return f.table()["id"].tolist(), [s["number"] for s in f.skipped]


@pytest.mark.parametrize("jacobian", [False, True])
@pytest.mark.parametrize("chunk_atoms", [8, 8192])
def test_a_frame_cut_at_first_and_whole_later(tmp_path, chunk_atoms, jacobian):
    """A trajectory that grows: what a fresh run gives of the whole file, byte for byte."""
    if jacobian:
        import fastdesc as fd

        descriptor = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=3)
    else:
        descriptor = Fake()
    source, out = tmp_path / "live.xyz", tmp_path / "f.h5"
    write(source, frames(10), format="extxyz")
    text = source.read_text()
    settings = {"on_error": "skip", "progress": False, "chunk_atoms": chunk_atoms, "jacobian": jacobian}
    at = 0
    for part in (0.32, 0.47, 0.75, 1.0):
        source.write_text(text[: int(part * len(text))])
        featurize(source, out, descriptor, resume=True, **settings)
        kept, skipped = ids(out)
        assert kept == list(range(len(kept))) and len(kept) >= at and skipped == ([len(kept)] if part < 1 else [])
        at = len(kept)
    assert at == 10
    assert content(out) == content(featurize(source, tmp_path / "whole.h5", descriptor, **settings))


def test_frames_the_descriptor_refused_are_tried_and_stay_out(tmp_path):
    data = [*frames(3), Atoms("Au", positions=[[0, 0, 1.0]]), *frames(6)[3:]]
    out = tmp_path / "f.h5"
    featurize(data[:5], out, Fake(), on_error="skip", progress=False)
    fake = Fake()
    featurize(data, out, fake, on_error="skip", progress=False, resume=True, chunk_atoms=1)
    assert ids(out) == ([0, 1, 2, 3, 4, 5], [3]) and fake.calls == [1, 1], "only the new ones were computed"
    data[3] = frames(10)[9]    # mended
    fake = Fake()
    featurize(data, out, fake, on_error="skip", progress=False, resume=True)
    assert ids(out) == ([0, 1, 2, 9, 3, 4, 5], []) and fake.calls == [4], "from the mended one on"
    assert content(out) == content(featurize(data, tmp_path / "whole.h5", Fake(), progress=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.calc.results.update(energy=-7.0), "the energy of frame 2 is not the one in"),
        (lambda a: a.calc.results["forces"].__setitem__((1, 2), 0.0), "the forces of frame 2 are not those in"),
        (lambda a: a.calc.results.update(stress=np.zeros(6)), "the stress of frame 2 is not the one in"),
        (lambda a: a.calc.results.pop("energy"), "the energy of frame 2 is not the one in"),
        (lambda a: a.positions.__setitem__((0, 0), np.nan), "frame 2 of the input is not the one in"),
    ],
)
def test_other_labels_are_noticed(tmp_path, change, message):
    data = frames(5)
    out = tmp_path / "f.h5"
    featurize(data[:4], out, Fake(), progress=False)
    before = out.read_bytes()
    change(data[2])
    with pytest.raises(InputError, match=message):
        featurize(data, out, Fake(), progress=False, resume=True)
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["f.h5"]


def test_a_frame_that_broke_meanwhile_is_named(tmp_path):
    source, out = tmp_path / "a.xyz", tmp_path / "f.h5"
    write(source, frames(5), format="extxyz")
    featurize(source, out, Fake(), progress=False)
    text = source.read_text()
    source.write_text(text.replace(text.splitlines()[3][:12], "Cu nonsense "))
    with pytest.raises(InputError, match=r"frame 0 is in .*f.h5 and cannot be used any more \(.*nonsense"):
        featurize(source, out, Fake(), progress=False, resume=True)
