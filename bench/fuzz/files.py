"""One file of every kind, as it was written, and what reads all that is in it."""

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastdesc as fd
from fastdesc.analysis.info import describe
from fastdesc.features import convert, featurize, open_features, read_features, read_frames
from fastdesc.features.shards import join, shards_of
from fastdesc.features.writer import FeaturesWriter
from fastdesc.hdf5 import tables
from fastdesc.io.sources import Source, build
from fastdesc.training.checkpoint import read_checkpoint, write_checkpoint

SMALL_CHUNKS = 1 << 11
"""Bytes. Chunks of ordinary size would be mostly zeros, and damage mostly without effect."""


class Kind(NamedTuple):
    """A kind of file: what is opened, what of it is damaged, and the function that reads it."""

    opened: str
    target: str
    read: object


def read_all_features(path):
    with open_features(path) as f:
        _ = f.table(), f.skipped, f.files, f.offsets, f[3:5], f.descriptor()
        if len(f):
            _ = f[0], f.forces(0), f.numbers(0)
            if "jacobian" in f.file:
                f.jacobian(0).todense()
        for _ in f.batches(5):
            pass
    read_features(path)
    describe(path)


def read_model(path):
    potential = fd.load(path)
    describe(path)
    return potential


def read_all_frames(path):
    read_frames(path)
    describe(path)


def read_text(path):
    """Frames of a text file, without those that are damaged, on their way into a file of ours."""
    convert(path, path.with_name("out.h5"), progress=False, on_error="skip")
    read_frames(path)


def read_state(path):
    read_checkpoint(path)
    describe(path)


KINDS = {
    "model": Kind("model.h5", "model.h5", read_model),
    "frames": Kind("frames.h5", "frames.h5", read_all_frames),
    "packed": Kind("packed.h5", "packed.h5", read_all_features),
    "features": Kind("features.h5", "features.h5", read_all_features),
    "joined": Kind("joined.h5", "joined.h5", read_all_features),
    "shard": Kind("joined.h5", "joined.h5.shards/000001.h5", read_all_features),
    "unfinished": Kind("late.h5.part", "late.h5.part", read_all_features),
    "journal": Kind("late.h5.part", "late.h5.part.journal", read_all_features),
    "checkpoint": Kind("checkpoint.h5", "checkpoint.h5", read_state),
    "splines": Kind("splines.h5", "splines.h5", read_model),
    "extxyz": Kind("frames.extxyz", "frames.extxyz", read_text),
    "xyz": Kind("frames.xyz", "frames.xyz", read_text),
}


def _hang(path):
    while True:
        pass


def _raise(path):
    raise KeyError(path.name)


FAULTS = {    # readers that do what none may do
    "exception": Kind("frames.xyz", "frames.xyz", _raise),
    "hang": Kind("frames.xyz", "frames.xyz", _hang),
    "crash": Kind("frames.xyz", "frames.xyz", lambda path: ctypes.string_at(0)),
    "memory": Kind("frames.xyz", "frames.xyz", lambda path: np.empty(5 << 27, np.uint8).sum()),
    "outside": Kind("frames.xyz", "frames.xyz", lambda path: (path.parents[2] / "outside/000000.h5").read_bytes()),
}


def frames(n=12):
    """Labelled frames that carry numbers, words, arrays and a constraint."""
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    found = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=k)
        atoms.info.update(step=k, note=f"words of frame {k}", dipole=np.arange(3.0))
        atoms.set_tags(range(len(atoms)))
        atoms.set_constraint(FixAtoms([0]))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * k, forces=np.full((len(atoms), 3), 0.1))
        found.append(atoms)
    return found


def make(folder):
    """Write one file of every kind into a folder; the process ends there, as a writer ends that is killed."""
    from ase.io import write

    folder = Path(folder)
    tables.CHUNK_BYTES = SMALL_CHUNKS
    structures, quiet = frames(), {"progress": False}
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=3, max_rank=1)
    knots = fd.SplineFilters(species=["Cu"], cutoff=3.0, triplet_cutoff=2.8, r_min=1.0, n_pair=2, n_triplet=2)
    fd.Potential(d, hidden=(4,)).save(folder / "model.h5")
    fd.Potential(knots, network="spline", hidden=()).save(folder / "splines.h5")
    convert(structures, folder / "frames.h5", **quiet)
    featurize(structures, folder / "features.h5", d, jacobian=True, **quiet)
    featurize(structures, folder / "packed.h5", d, pool="mean", compression="gzip", dtype="float32", **quiet)
    many = {f"moment {k}": np.ones((2, 3)) for k in range(20)}    # more than a header holds
    state = {"epoch": 3, "rng": {"state": 1 << 100}, "parameters": {**many, "words": ["a", None]}}
    write_checkpoint(folder / "checkpoint.h5", state)
    joined = folder / "joined.h5"
    shards_of(joined).mkdir()
    for k in range(2):
        featurize(structures[6 * k : 6 * k + 6], shards_of(joined) / f"{k:06d}.h5", d, **quiet)
    join(joined, 2, Source(structures), {"pool": None, "jacobian": False, "compression": "none"})
    write(folder / "frames.extxyz", structures)
    write(folder / "frames.xyz", structures, format="xyz", comment="step")
    writer = FeaturesWriter(folder / "late.h5", d, np.float64, False)
    for raw in Source(structures).raw_batches(20):
        batch = build(raw, [])
        writer.append(batch, d.compute([structures[k] for k in batch.number]))
        writer.commit()
    os._exit(0)


