"""Files that point outside themselves, or claim what they do not hold, are refused before anything is read."""

import json
import shutil

import h5py
import numpy as np
import pytest
from helpers.featurizing import Fake, frames

import fastdesc as fd
from fastdesc.errors import FileFormatError
from fastdesc.features import convert, featurize, open_features, read_features
from fastdesc.features.shards import join, shards_of
from fastdesc.hdf5.attributes import LONGEST, attribute, attributes, set_attributes
from fastdesc.hdf5.files import open_hdf5
from fastdesc.io.sources import Source


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A file of every kind, and one that holds a secret."""
    folder = tmp_path_factory.mktemp("originals")
    convert(frames(5), folder / "frames.h5", progress=False)
    noted = frames(5)
    for k, atoms in enumerate(noted):
        atoms.info["note"] = f"words {k}"
    featurize(noted, folder / "features.h5", Fake(), progress=False)
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=3, max_rank=1)
    fd.Potential(d, hidden=(4,)).save(folder / "model.h5")
    with h5py.File(folder / "secret.h5", "w") as f:
        f["positions"] = f["features"] = np.full((30, 3), 42.0)
    (folder / "secret.raw").write_bytes(b"\x01" * 720)
    joined = folder / "joined.h5"
    shards_of(joined).mkdir()
    for k in range(2):
        featurize(frames(5), shards_of(joined) / f"{k:06d}.h5", Fake(), progress=False)
    join(joined, 2, Source(frames(5)), {"pool": None, "jacobian": False, "compression": "none"})
    return folder


@pytest.fixture
def folder(originals, tmp_path):
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    return tmp_path


READERS = {"frames": fd.read_frames, "features": read_features, "model": fd.load, "joined": read_features}
PLACES = {"frames": "positions", "features": "features", "model": "scaler/mean", "joined": "energies"}
KINDS = pytest.mark.parametrize("kind", READERS)


def refused(folder, kind, change, words):
    path = folder / f"{kind}.h5"
    READERS[kind](path)
    with h5py.File(path, "r+") as f:
        change(f)
    with pytest.raises(FileFormatError, match=rf"{kind}.h5 is damaged .*{words}"):
        READERS[kind](path)


@KINDS
def test_external_links(folder, kind):
    def change(f):
        del f[PLACES[kind]]
        f[PLACES[kind]] = h5py.ExternalLink(str(folder / "secret.h5"), "positions")

    refused(folder, kind, change, "is a link to another place")


@KINDS
def test_links_within_the_file(folder, kind):
    """A group in itself has no end."""
    refused(folder, kind, lambda f: f.__setitem__("group", f["/"]), "is there under two names|is a link")


def test_raw_data_elsewhere(folder):
    def change(f):
        del f["positions"]
        f.create_dataset("positions", (30, 3), np.float64, external=[(str(folder / "secret.raw"), 0, 720)])

    refused(folder, "frames", change, "positions lies in another file")


@KINDS
@pytest.mark.parametrize("source", ["/absolute", "../secret.h5", "secret.h5", "a.shards/../secret.h5"])
def test_virtual_datasets(folder, kind, source):
    """Only the shards beside a file may be parts of it."""
    source = str(folder / "secret.h5") if source == "/absolute" else source

    def change(f):
        shape = f[PLACES[kind]].shape
        del f[PLACES[kind]]
        layout = h5py.VirtualLayout(shape, np.float64)
        layout[:] = h5py.VirtualSource(source, "positions", shape)
        f.create_virtual_dataset(PLACES[kind], layout)

    refused(folder, kind, change, "is made of parts of other files than the shards beside it")


@pytest.mark.parametrize("name", ["/etc", "..", "../joined.h5.shards", ".", "folder/joined.h5.shards"])
def test_shards_elsewhere(folder, name):
    (folder / "folder").mkdir()
    shutil.copytree(folder / "joined.h5.shards", folder / "folder" / "joined.h5.shards")
    refused(folder, "joined", lambda f: set_attributes(f, {"shards": name}), "is not beside the file")


def test_more_shards_than_there_are(folder):
    refused(folder, "joined", lambda f: f.attrs.__setitem__("n_shards", 10**12), "are no such bounds")


def test_bounds_of_more_than_the_shards_hold(folder):
    """10^12 rows, of which memory would be made before the first is read."""
    n = 10**12

    def change(f):
        for bounds, name in (("atoms", "features"), ("atoms", "numbers"), ("atoms", "forces")):
            del f[name]
            old = h5py.VirtualLayout((n, *{"numbers": ()}.get(name, (2 if name == "features" else 3,))), np.float64)
            f.create_virtual_dataset(name, old)
            set_attributes(f[name], {"unit": "1", "shape": "n_atoms"})
            f[f"shards/{bounds}"][-1] = n
        f["offsets"][-1] = n

    path = folder / "joined.h5"
    with h5py.File(path, "r+") as f:
        change(f)
    with pytest.raises(FileFormatError, match=r"joined.h5 is damaged"):
        read_features(path)


@pytest.mark.parametrize("kind", ["frames", "features"])
def test_a_billion_atoms_in_a_small_file(folder, kind):
    """Datasets whose chunks were never written read as zeros, of any number."""
    def change(f):
        for name in ("numbers", "positions", "forces", "features"):
            if name in f:
                f[name].resize(10**9, axis=0)
        f["offsets"][-1] = 10**9

    refused(folder, kind, change, "and the file does not hold as much")


def test_text_of_a_billion_frames(folder):
    def change(f):
        f.create_dataset("info/word", (10**9,), h5py.string_dtype(), chunks=(1024,))

    refused(folder, "features", change, "info/word has 1000000000 rows, and the file does not hold as much")


def test_filters_that_are_not_ours(folder):
    """A filter is a plugin, loaded when data is read."""
    def change(f):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4,))
        made.set_filter(4321, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        h5py.h5d.create(f.id, b"more", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((4,)), made)

    refused(folder, "model", change, "more needs the filter 4321")


@pytest.mark.parametrize("where, change", [
    ("potential", {"hidden": [30000, 30000]}), ("potential", {"hidden": [100000]}),
    ("potential", {"hidden": [100000], "network": "spline"}),
    ("descriptor", {"n_radial": 900, "n_basis": 900}),
])  # fmt: skip
def test_a_description_of_more_than_the_file_holds(folder, where, change):
    """7 GB of weights would be made before it shows that the file has none of them."""
    path = folder / "model.h5"
    with h5py.File(path, "r+") as f:
        words = json.loads(attribute(f, where))
        (words["arguments"] if where == "descriptor" else words).update(change)
        set_attributes(f, {where: json.dumps(words)})
    with pytest.raises(FileFormatError, match=r"model.h5 describes \d+ parameters or more and holds \d+ numbers"):
        fd.load(path)


def test_what_is_whole_is_read(originals):
    for kind, read in READERS.items():
        read(originals / f"{kind}.h5")


def test_attributes_have_a_fixed_length(originals):
    """Text of variable length lies in a heap, and HDF5 hangs in a damaged one."""
    varying = []

    def look(name, item):
        for key in item.attrs:
            kind = item.attrs.get_id(key).get_type()
            if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
                varying.append((name, key))

    for kind in READERS:
        with h5py.File(originals / f"{kind}.h5") as f:
            look("/", f)
            f.visititems(look)
    assert varying == []


def test_long_text_in_attributes(tmp_path):
    values = {"long": "Å" * LONGEST, "empty": "", "short": "a", "number": 3}
    with h5py.File(tmp_path / "a.h5", "w") as f:
        set_attributes(f, values)
        assert attributes(f) == values and len(f.attrs) == 5


def hang(path):
    """Damage the first heap of text as one byte would: an object at its end without a size."""
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL\x01")
    at, size = heap + 16, int.from_bytes(data[heap + 8 : heap + 16], "little")
    while int.from_bytes(data[at : at + 2], "little"):
        at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7) // 8 * 8
    assert at < heap + size
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)


def test_a_heap_in_which_hdf5_would_hang(folder):
    """Of text in files of this version."""
    hang(folder / "features.h5")
    with pytest.raises(FileFormatError, match=r"the free space of the heap of text at byte .* has no size"):
        open_features(folder / "features.h5").table()


@pytest.mark.parametrize("kind", ["frames", "features", "model"])
def test_a_heap_of_attributes_of_earlier_versions(folder, kind):
    """Their text has variable length: it is read, and in a damaged heap refused."""
    path = folder / f"{kind}.h5"
    with h5py.File(path, "r+") as f:
        items = [f]
        f.visititems(lambda name, item: items.append(item))
        for item in items:
            item.attrs.update({k: v for k, v in attributes(item).items() if isinstance(v, str)})
    READERS[kind](path)
    hang(path)
    with pytest.raises(FileFormatError, match="has no size"):
        READERS[kind](path)


def test_damage_of_parameters_shows(folder):
    path = folder / "model.h5"
    with open_hdf5(path) as f:
        names = ("scaler/mean", "scaler/scale", "reference")
        where = [f[name].id.get_chunk_info(0).byte_offset for name in names]
    for at in where:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        (folder / "damaged.h5").write_bytes(data)
        with pytest.raises(FileFormatError, match=r"damaged.h5 is damaged"):
            fd.load(folder / "damaged.h5")
