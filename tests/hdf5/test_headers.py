"""What HDF5 would make memory for, or go wrong with, before it finds damage; byte by byte as its format has it."""

import struct

import h5py
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.featurizing import Fake, frames

import fastdesc as fd
from fastdesc.analysis.info import describe
from fastdesc.errors import FileFormatError
from fastdesc.features import convert, featurize, open_features, read_features
from fastdesc.features.shards import join, shards_of
from fastdesc.hdf5.headers import check_header, check_parts
from fastdesc.hdf5.heaps import Raw
from fastdesc.io.sources import Source


def changed(path, at, data):
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)


@pytest.fixture
def stored(tmp_path):
    convert(frames(3), tmp_path / "frames.h5", progress=False)
    return tmp_path / "frames.h5"


@pytest.fixture
def joined(tmp_path):
    out = tmp_path / "joined.h5"
    shards_of(out).mkdir()
    for k in range(2):
        featurize(frames(5), shards_of(out) / f"{k:06d}.h5", Fake(), progress=False)
    return join(out, 2, Source(frames(5)), {"pool": None, "jacobian": False, "compression": "none"}) or out


def number(data, at, width=8):
    return int.from_bytes(data[at : at + width], "little")


def root_of(path):
    return number(path.read_bytes(), 64)    # superblock 0: the root's entry ends with it


def test_a_root_of_four_gigabytes(stored):
    """The size of its header (IV.A.1.a) is read when the file is opened."""
    changed(stored, root_of(stored) + 8, struct.pack("<I", 0xFFFFFFF0))
    with pytest.raises(FileFormatError, match="header of the object at byte 96 is said to have 4294967280 bytes"):
        fd.read_frames(stored)


@pytest.mark.parametrize(
    "at, data, words",
    [
        (8, b"\x07", "of version 7"),
        (13, b"\x04", "not of the usual kind"),
        (48, b"\0\1\0\0\0\0\0\0", "a driver or an extension"),
        (64, b"\0\0\0\0\0\0\0\1", "no object at byte"),
    ],
)
def test_the_first_bytes(stored, at, data, words):
    changed(stored, at, data)
    with pytest.raises(FileFormatError, match=words):
        fd.read_frames(stored)


def test_a_file_within_another(stored):
    """HDF5 looks for its signature at 512, 1024, .. too."""
    stored.write_bytes(bytes(512) + stored.read_bytes())
    with pytest.raises(FileFormatError, match="does not begin with the signature"):
        fd.read_frames(stored)


def test_names_of_four_gigabytes(stored):
    """The heap of a group's names (III.D) is read whole."""
    data = stored.read_bytes()
    changed(stored, data.index(b"HEAP") + 8, struct.pack("<Q", 1 << 32))
    with pytest.raises(FileFormatError, match="are said to have 4294967296 bytes"):
        fd.read_frames(stored)


def test_a_chunk_shorter_than_its_checksum(tmp_path):
    """HDF5 sums up as many bytes as the chunk has, less four: of a chunk of one byte nearly 2^64."""
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=3, max_rank=1)
    path = tmp_path / "model.h5"
    fd.Potential(d, hidden=(4,)).save(path)
    with h5py.File(path) as f:
        chunk = f["scaler/mean"].id.get_chunk_info(0)
    data = path.read_bytes()
    # A leaf of the B-tree of chunks (III.A.1) has before each address size, filters, and offsets: of the axis and one.
    for size in (1, 0xFFFFFFF0):    # and one of four gigabytes, for which memory would be made
        changed(path, data.index(struct.pack("<II16xQ", chunk.size, 0, chunk.byte_offset)), struct.pack("<I", size))
        with pytest.raises(FileFormatError, match=f"scaler/mean has a chunk of {size} bytes"):
            fd.load(path)


def _parts(path):
    """Where the list of the parts of `features` begins, and the list."""
    data = path.read_bytes()
    at = data.index(b"joined.h5.shards/000000.h5\0features\0") - 9
    return at, data[at : at + number(data, at - 8)]


def test_parts_that_h5py_writes_are_read(joined, tmp_path):
    with open_features(joined) as f:
        assert len(f) == 10
    check_parts(_parts(joined)[1])
    for n, old in ((1 << 33, ()), (1 << 33, (3,))):    # more rows than 32 bits count
        with h5py.File(tmp_path / "large.h5", "w") as f:
            layout = h5py.VirtualLayout((2 * n, *old), float)
            layout[n:] = h5py.VirtualSource("a.h5.shards/000000.h5", "x", (n, *old))
            f.create_virtual_dataset("x", layout)
        data = (tmp_path / "large.h5").read_bytes()
        at = data.index(b"a.h5.shards/000000.h5\0x\0") - 9
        check_parts(data[at : at + number(data, at - 8)])


def test_a_selection_of_more_axes_than_there_are(joined):
    """HDF5 2.0 writes beyond what it has made for a selection of another rank than the dataset's."""
    at, parts = _parts(joined)
    rank = parts.index(b"features\0") + len(b"features\0") + 16 + 16    # behind all rows there, and the kind here
    assert number(parts, rank, 4) == 2
    changed(joined, at + rank, struct.pack("<I", 1 << 20))
    with pytest.raises(FileFormatError, match="a part of a virtual dataset is not one block"):
        read_features(joined)


@pytest.mark.parametrize("cut", range(9, 190, 12))
def test_parts_cut_short(joined, cut):
    parts = _parts(joined)[1]
    with pytest.raises(ValueError, match=r"cut short|does not end where|not one block|chosen in a way"):
        check_parts(parts[:cut])


def test_an_object_that_is_not_there(joined):
    """The layout says which object of which heap lists the parts."""
    at, _ = _parts(joined)
    data = joined.read_bytes()
    heap, index = data.rindex(b"GCOL", 0, at), number(data, at - 16, 2)
    layout = data.index(b"\x04\x03" + struct.pack("<QI", heap, index))
    changed(joined, layout + 10, struct.pack("<I", 999))
    with pytest.raises(FileFormatError, match="has no object 999"):
        read_features(joined)


@pytest.mark.parametrize("size", [0, 1, 0xFFFFFFF0])
@pytest.mark.parametrize(("name", "offsets"), [("info/note", 16), ("forces", 24)])
def test_chunks_of_another_size(stored, name, offsets, size):
    """Without filters all chunks are of one size, and the B-tree says another.

    HDF5 makes memory for four gigabytes, and of what a short chunk lacks it reads whatever was in memory before.
    """
    noted = frames(3)
    for atoms in noted:
        atoms.info["note"] = "words"
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
    convert(noted, stored, progress=False)
    with h5py.File(stored, "r+") as f:
        if name == "forces":    # as of files without checksums
            values = f[name][:]
            del f[name]
            f.create_dataset(name, data=values, chunks=(16, 3), maxshape=(None, 3))
        chunk = f[name].id.get_chunk_info(0)
    data = stored.read_bytes()
    leaf = struct.pack(f"<II{offsets}xQ", chunk.size, 0, chunk.byte_offset)
    changed(stored, data.index(leaf), struct.pack("<I", size))
    with pytest.raises(FileFormatError, match=f"{name} has chunks of another size than {chunk.size} bytes"):
        fd.read_frames(stored)


def test_the_name_of_a_compression_that_is_no_text(stored, tmp_path):
    features = featurize(frames(3), tmp_path / "features.h5", Fake(), progress=False)
    for path, readers in ((features, (open_features, describe)), (stored, (fd.read_frames, describe))):
        with h5py.File(path, "r+") as f:
            f.attrs.create("compression", np.array(b"\xff\xfe", "S2"), dtype=h5py.string_dtype("utf-8", 2))
        for read in readers:
            with pytest.raises(FileFormatError, match=f"{path.name} is damaged .*decode"):
                read(path)


def test_a_text_of_four_gigabytes(stored):
    """The pointer of a row to its text says how long that is; HDF5 clears as much memory, for every row."""
    noted = frames(3)
    for atoms in noted:
        atoms.info["note"] = "words"
    convert(noted, stored, progress=False)
    with h5py.File(stored) as f:
        at = f["info/note"].id.get_chunk_info(0).byte_offset
    assert number(stored.read_bytes(), at, 4) == len("words")
    changed(stored, at, struct.pack("<I", 0xFFFFFFF0))
    with pytest.raises(FileFormatError, match="a text is said to have 4294967280 bytes, more than its heap holds"):
        fd.read_frames(stored)


@pytest.mark.parametrize("options", [{}, {"track_order": True}, {"libver": "latest"}])
def test_sound_headers_pass(tmp_path, options):
    """Of old and of new versions, with attributes and members by the hundred."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", **options) as f:
        for k in range(100):
            f.attrs[f"attribute {k}"] = "x" * 200
            f[f"group {k}/data"] = np.arange(k)
    with open(path, "rb") as file, h5py.File(path) as f:
        raw = Raw(file.fileno())
        check_header(raw, h5py.h5o.get_info(f.id).addr)
        for k in range(100):
            check_header(raw, h5py.h5o.get_info(f[f"group {k}/data"].id).addr)
