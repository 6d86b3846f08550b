"""What frames files hold is compared with its checksums when it is read; files without them are read as well."""

import zlib

import h5py
import numpy as np
import pytest
from ase import Atoms
from helpers.featurizing import Fake, frames

import fastdesc as fd
from fastdesc.errors import FileFormatError
from fastdesc.features import convert, featurize, open_features
from fastdesc.hdf5.tables import text_sums

FLOATS = ["positions", "cells", "energies", "forces", "stress", "arrays/weight/values"]
TEXTS = {"info/note": b"words of 3", "info_json": b'{"note": 3.5}', "arrays/residue/values": b"HOH 3"}


def noted(n=6):
    found = frames(n)
    for k, atoms in enumerate(found):
        atoms.info["note"] = f"words of {k}" if k != 4 else 3.5
        atoms.arrays["weight"] = np.arange(float(len(atoms)))
        atoms.arrays["residue"] = np.array([f"HOH {k}"] * len(atoms))
    return found


@pytest.fixture
def stored(tmp_path):
    return convert(noted(), tmp_path / "frames.h5", progress=False)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FLOATS)
def test_one_bit_of_the_numbers(stored, name):
    with h5py.File(stored) as f:
        at = f[name].id.get_chunk_info(0).byte_offset
    flip(stored, at + 5)
    with pytest.raises(FileFormatError, match=r"frames.h5 is damaged \(.*(checksum|filter)"):
        fd.read_frames(stored)


@pytest.mark.parametrize("name, text", TEXTS.items())
def test_one_bit_of_the_texts(stored, name, text):
    """HDF5 keeps them in heaps, which have no checksums."""
    flip(stored, stored.read_bytes().index(text) + 2)
    with pytest.raises(FileFormatError, match=rf"frames.h5 is damaged \(the text in row \d+ of /{name} is not what"):
        fd.read_frames(stored)


def test_texts_of_a_features_file(tmp_path):
    path = featurize(noted(), tmp_path / "f.h5", Fake(), progress=False)
    flip(path, path.read_bytes().index(b"words of 5") + 2)
    with (
        open_features(path) as f,
        pytest.raises(FileFormatError, match=r"the text in row 5 of /info/note is not what was written"),
    ):
        f.table()


def test_files_of_earlier_versions(stored, tmp_path):
    want = fd.read_frames(stored)
    with h5py.File(stored, "r+") as f:
        del f["checksums"]
        for name in FLOATS:
            values, words = f[name][...], dict(f[name].attrs)
            del f[name]
            f.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:])).attrs.update(words)
    for a, b in zip(want, fd.read_frames(stored), strict=True):
        assert a == b and a.info == b.info


def test_an_earlier_file_is_gone_on_with(tmp_path):
    """Its columns stay without checksums; a new one has them."""
    some = noted(4)
    path = featurize(some, tmp_path / "f.h5", Fake(), progress=False)
    with h5py.File(path, "r+") as f:
        del f["checksums"]
    more = [*some, *frames(2)]
    more[-1].info.update(note="late", word="new")
    featurize(more, path, Fake(), resume=True, progress=False)
    with open_features(path) as f:
        assert list(f.info("word")) == [""] * 5 + ["new"] and f.info("note")[5] == "late"
        assert list(f.file["checksums/info"]) == ["word"]


def test_rows_that_were_taken_back(tmp_path):
    """Resuming a file whose last frames were begun anew leaves no checksum behind."""
    texts = [Atoms("Cu", info={"note": f"words {k}"}) for k in range(4)]
    path = featurize(texts, tmp_path / "f.h5", Fake(), progress=False)
    featurize(texts + texts[:2], path, Fake(), resume=True, progress=False)
    with open_features(path) as f:
        assert list(f.info("note")) == [f"words {k}" for k in (0, 1, 2, 3, 0, 1)]
        assert f.file["checksums/info/note"].shape == (6,)


def test_the_checksum(stored):
    """CRC-32 of the UTF-8, as zlib has it: anyone can compute it."""
    assert text_sums(["Å", ""]).tolist() == [zlib.crc32("Å".encode()), 0]
    with h5py.File(stored) as f:
        assert f["checksums/info/note"][3] == zlib.crc32(b"words of 3")
