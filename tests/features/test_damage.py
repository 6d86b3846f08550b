"""Files with a part missing or changed: opened as if nothing were wrong, or refused in a sentence; never a traceback.

Every dataset, group and attribute of every kind of file is taken away, and replaced by things of other kinds and
shapes, one at a time: every fourth of them, or all with --thorough.
"""

import json
import shutil
from functools import cache
from itertools import islice

import h5py
import numpy as np
import pytest
from ase.io import write

import fastdesc as fd
from fastdesc.analysis.accuracy import Comparison, compare
from fastdesc.analysis.info import describe
from fastdesc.cli.demo import crystals
from fastdesc.errors import FastdescError
from fastdesc.training import trainer_for
from fastdesc.training.checkpoint import read_checkpoint
from fastdesc.training.trainer_state import restore

SETTINGS = {"batch_size": 4, "epochs": 1, "schedule": "plateau"}
WRONG_ATTRIBUTES = (3, "words", "{}", "null", np.nan, np.zeros(0), h5py.Empty("f8"))
WRONG_JSON = (None, -1, 10**12, "words", [None])
WRONG_DATA = {
    "text": lambda old: "words",
    "nothing": lambda old: h5py.Empty("f8"),
    "empty": lambda old: np.zeros(0),
    "cut": lambda old: old[:-1] if old.ndim else old,
    "deep": lambda old: old[None],
    "nan": lambda old: np.full(old.shape, np.nan),
    "negative": lambda old: np.full(old.shape, -1),
    "records": lambda old: np.zeros(old.shape, [("a", int)]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One small file of each kind, and how each is used."""
    folder = tmp_path_factory.mktemp("damage")
    frames = crystals(5, 0)
    write(folder / "frames.extxyz", frames)
    moments = fd.GaussianMoments(species=["Cu", "Au"], cutoff=3.0, n_radial=1, n_basis=2)
    filters = fd.SplineFilters(species=["Cu", "Au"], cutoff=3.0, triplet_cutoff=3.0, n_pair=2, n_triplet=1)
    fd.Potential(moments, hidden=(2,)).save(folder / "moments.h5")
    fd.Potential(filters, network="spline", direct=["pair_0"], bias=False).save(folder / "filters.h5")
    fd.featurize(folder / "frames.extxyz", folder / "features.h5", moments, jacobian=True, progress=False)
    fd.convert(folder / "frames.extxyz", folder / "frames.h5", progress=False)
    compare(fd.load(folder / "moments.h5"), frames).save(folder / "predictions.h5")
    trainer().run(folder / "checkpoint.h5", progress=False)
    for name, use in USES.items():
        use(folder / name, folder)
    return folder


def use_features(path, folder):
    with fd.open_features(path) as f:
        parts = [f[:], f[0], f.offsets, f.energies, f.files, f.skipped, f.table(), f.descriptor(), f.jacobian(0)]
        return [*parts, f.forces(0), f.numbers(1), list(f.batches(2)), repr(f)]


def use_frames(path, folder):
    moments = fd.load(folder / "moments.h5").descriptor
    return fd.read_frames(path), fd.StructureFeatures(moments).transform(str(path))


@cache
def trainer():
    """Of few parameters, one of each shape: a checkpoint holds five arrays for each, and is read hundreds of times."""
    copper = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=1, n_basis=2)
    frames = [atoms for atoms in crystals(9, 0) if set(atoms.symbols) == {"Cu"}]
    return trainer_for(fd.Potential(copper, network="spline", direct=True, bias=False), frames, **SETTINGS)


def use_checkpoint(path, folder):
    restore(trainer(), read_checkpoint(path), path)


def use_predictions(path, folder):
    Comparison.load(path).summary()


USES = {
    "moments.h5": lambda path, folder: fd.load(path).predict(crystals(1, 0)),
    "filters.h5": lambda path, folder: fd.load(path),
    "features.h5": use_features,
    "frames.h5": use_frames,
    "predictions.h5": use_predictions,
    "checkpoint.h5": use_checkpoint,
}
DESCRIBED = (lambda path, folder: describe(path),)
"""It takes long: every fourth time."""


def in_json(text):
    """A JSON text with one entry at a time left out or replaced."""
    def places(table, way=()):
        for key in table if isinstance(table, dict) else ():
            yield *way, key
            yield from places(table[key], (*way, key))

    def changed(way, change):
        copy = json.loads(text)
        inner = copy
        for key in way[:-1]:
            inner = inner[key]
        change(inner, way[-1])
        return json.dumps(copy)

    for way in places(json.loads(text)):
        yield changed(way, lambda table, key: table.pop(key))
        for wrong in WRONG_JSON:
            yield changed(way, lambda table, key, wrong=wrong: table.update({key: wrong}))


def kind_of(item):
    """What is the same for things of a file of which one tells of the others."""
    group, shape = item.parent.name, getattr(item, "shape", None)
    if group == "/settings" and shape == ():
        return group, type(json.loads(item[()]))    # all are compared in one loop
    return group, shape or item.name    # parameters and their moments are many of a kind


def changes(path):
    """Yield (what is done, function of the open file) for all that can be wrong with one thing in a file."""
    with h5py.File(path) as f:
        items = [f]
        f.visititems(lambda name, item: items.append(item))
        for item in {kind_of(item): item for item in items}.values():
            where = item.name
            for name, value in item.attrs.items():
                if name in ("unit", "shape"):
                    continue
                yield f"no {where} @{name}", lambda f, w=where, n=name: f[w].attrs.pop(n)
                texts = in_json(value) if isinstance(value, str) and value.startswith("{") else ()
                for wrong in (*WRONG_ATTRIBUTES, *texts):
                    yield f"{where} @{name} = {wrong!r}", lambda f, w=where, n=name, x=wrong: f[w].attrs.update({n: x})
            if where == "/":
                continue
            yield f"no {where}", lambda f, w=where: f.pop(w)
            wrong = WRONG_DATA if isinstance(item, h5py.Dataset) else {"a dataset": lambda old: np.zeros(3)}
            if getattr(item, "shape", None) == ():
                wrong = {name: WRONG_DATA[name] for name in ("text", "nothing", "negative")}
            for name, make in wrong.items():
                yield f"{where}: {name}", lambda f, w=where, make=make: replace(f, w, make)
            if isinstance(item, h5py.Dataset):
                yield f"{where}: a group", lambda f, w=where: replace(f, w, None)


def replace(f, where, make):
    attributes, old = dict(f[where].attrs), f[where][()] if isinstance(f[where], h5py.Dataset) else None
    del f[where]
    if make is None:
        f.create_group(where)
    else:
        f[where] = make(np.asarray(old))
    f[where].attrs.update(attributes)


@pytest.mark.parametrize("name", USES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damage_is_told_in_a_sentence(folder, tmp_path, name, thorough):
    path, told, broken = tmp_path / name, 0, []
    every = 1 if thorough else 4
    for k, (what, change) in enumerate(islice(changes(folder / name), None, None, every)):
        shutil.copy(folder / name, path)
        with h5py.File(path, "r+") as f:
            change(f)
        for use in (USES[name], *DESCRIBED[: k % 8 == 0]):
            try:
                use(path, folder)
            except FastdescError as error:
                told += 1
                if "\n" in str(error):
                    broken.append(f"{what}: {error!r}")
            except Exception as error:
                broken.append(f"{what}: {error!r}")
    assert not broken, "\n".join(broken)
    assert told > 30 / every
