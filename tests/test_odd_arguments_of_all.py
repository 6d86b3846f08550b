"""Arguments out of the ordinary, swept over what is public: one sentence each, never a raw exception.

Files and features are swept in tests/features/test_odd_arguments.py.
"""

from fractions import Fraction

import numpy as np
import pytest
from helpers.training import alloy

import fastdesc as fd
from fastdesc.analysis.accuracy import compare
from fastdesc.errors import FastdescError
from fastdesc.features.transformer import pooled_features
from fastdesc.ipi import run_client
from fastdesc.lammps import attach
from fastdesc.openmm import python_force

ODD = {
    "no axes": np.array(3), "no axes, text": np.array("x"), "row": np.array([1, 2]),
    "objects": np.array([None, 1], object), "no rows": np.zeros((0, 3)), "dict": {"a": 1},
    "fraction": Fraction(1, 3), "nan": float("nan"), "huge": 10**400,
    "ragged": [[1, [2]]], "object": object(), "bytes": b"x", "complex": 1 + 2j, "surrogate": "\udc80", "class": int,
    "None in a list": [None], "NUL": "a\0b",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fitted potential, frames, an open features file."""
    frames = alloy(4)
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=3.0, n_radial=2, n_basis=3, max_rank=1)
    potential = fd.Potential(d, hidden=(4,))
    fd.train(potential, frames, frames[:2], epochs=1, progress=False)
    path = fd.featurize(frames, tmp_path_factory.mktemp("odd") / "f.h5", d, progress=False)
    with fd.open_features(path) as file:
        yield potential, frames, d, file


def train(made, **arguments):
    _, frames, d, _ = made
    one = {} if {"steps", "minutes"} & set(arguments) else {"epochs": 1}
    fd.train(fd.Potential(d, hidden=(4,)), frames, frames[:2], **{**one, "progress": False, **arguments})


def reference(made, reference):
    fd.Potential(made[2], hidden=(4,)).reference = reference


def calculator(made, **arguments):
    atoms = made[1][0].copy()
    atoms.calc = fd.FastdescCalculator(**{"potential": made[0], **arguments})
    atoms.get_forces()


def crystal(made):
    return made[1][0][:3]


CALLS = {    # what takes the arguments; and each of these, with what is odd elsewhere and means something there
    "Potential": (lambda made, **a: fd.Potential(**{"descriptor": made[2], "hidden": (4,), **a}), {
        "descriptor": "", "hidden": ("row", "no rows"), "activation": "", "network": "", "seed": "huge", "direct": "",
        "bias": "", "n_knots": "", "reference": "",
    }),
    "reference": (reference, {"reference": "row"}),
    "predict": (lambda made, **a: made[0].predict(**{"frames": made[1], **a}), {
        "frames": "", "device": "", "dtype": "", "forces": "", "stress": "", "uncertainty": "", "members": "huge",
    }),
    "hessian": (lambda made, **a: made[0].hessian(**{"atoms": made[1][0][:3], "indices": [0], **a}), {
        "atoms": "", "indices": ("no axes", "row"), "device": "",
    }),
    "elastic": (lambda made, **a: fd.elastic_constants(**{"potential": made[0], "atoms": crystal(made), **a}), {
        "potential": "", "atoms": "", "device": "",
    }),
    "sparse": (lambda made, **a: fd.sparse_hessian(**{"potential": made[0], "atoms": crystal(made), **a}), {
        "potential": "", "atoms": "", "indices": ("no axes", "row"),
    }),
    "i-PI": (lambda made, **a: run_client(**{"potential": made[0], "atoms": made[1][0], "port": 9, "wait": 0.0, **a}), {
        "potential": "", "atoms": "", "host": "", "port": "", "unix": "", "wait": "", "device": "", "dtype": "",
        "say": "class",
    }),
    "calculator": (calculator, {"potential": "", "skin": "fraction", "device": "", "dtype": "", "graph": ""}),
    "together": (lambda made, **a: fd.calculate_together(**{"images": made[1], "potential": made[0], **a}), {
        "images": "", "potential": "", "device": "", "dtype": "",
    }),
    "compute": (lambda made, **a: made[2].compute(**{"frames": made[1], **a}), {
        "frames": "", "device": "", "dtype": "", "jacobian": "",
    }),
    "jacobian_blocks": (lambda made, **a: list(made[2].jacobian_blocks(**{"frames": made[1], **a})), {
        "frames": "", "n_atoms": "huge", "device": "", "dtype": "",
    }),
    "compare": (lambda made, **a: compare(**{"potential": made[0], "frames": made[1], **a}), {
        "potential": "", "frames": "", "device": "", "dtype": "", "uncertainty": "",
    }),
    "read_frames": (lambda made, **a: fd.read_frames(made[1], **a), {
        "energy_key": "", "forces_key": "", "stress_key": "",
    }),
    "choose_cutoff": (lambda made, **a: fd.choose_cutoff(**{"frames": made[1], **a}), {"frames": ""}),
    "fit_uncertainty": (lambda made, **a: fd.fit_uncertainty(**{"potential": made[0], "train_frames": made[1], **a}), {
        "potential": "", "train_frames": "", "device": "", "dtype": "",
    }),
    "shallow_ensemble": (
        lambda made, **a: fd.shallow_ensemble(**{
            "potential": made[0], "train_frames": made[1], "valid_frames": made[1][:2], "members": 2, **a,
        }), {"potential": "", "train_frames": "", "members": "", "likelihood": "", "device": "", "dtype": ""},
    ),
    "select_diverse": (lambda made, **a: fd.select_diverse(**{"features": np.eye(3), "n": 1, **a}), {
        "features": "no rows", "n": "", "scale": "", "first": "", "weights": "row", "environments": "",
        "checkpoint": "surrogate", "scheduler": "",
    }),
    "select_typical": (lambda made, **a: fd.select_typical(**{"features": np.eye(3), "n": 1, **a}), {
        "features": "no rows", "n": "", "scale": "", "seed": "huge",
    }),
    "select_uncertain": (lambda made, **a: fd.select_uncertain(**{"features": np.eye(3), "n": 1, **a}), {
        "features": "no rows", "n": "", "noise": "fraction", "first": "",
    }),
    "select_spanning": (lambda made, **a: fd.select_spanning(**{"features": np.eye(3), "n": 1, **a}), {
        "features": "no rows", "n": "", "noise": "fraction", "tolerance": "fraction",
    }),
    "rarity": (lambda made, **a: fd.rarity(**{"features": np.eye(3), **a}), {
        "features": "no rows", "scale": "", "ridge": "fraction",
    }),
    "SimilarityKernel": (lambda made, **a: fd.SimilarityKernel(**{"descriptor": made[2], **a}).fit(made[1]), {
        "descriptor": "", "kernel": "", "similarity": "", "power": "", "width": "fraction", "entropy": "fraction",
        "scale": "", "device": "", "dtype": "",
    }),
    "find_duplicates": (lambda made, **a: fd.find_duplicates(**{"features": np.eye(3), "tolerance": 0.1, **a}), {
        "features": "no rows", "tolerance": "fraction", "scale": "",
    }),
    "pooled": (lambda made, **a: pooled_features(**{"features": made[3], **a}), {"pool": "", "n": "huge"}),
    "rows": (lambda made, which: made[3][which], {"which": ("row", "huge", "no axes")}),
    "rows of atoms": (lambda made, which: made[3].atoms[which], {"which": ("row", "huge", "no axes")}),
    "attach": (lambda made, lmp: attach(lmp), {"lmp": ""}),
    "train": (train, {
        "steps": "", "minutes": "fraction", "batch_size": "", "batch_atoms": "", "learning_rate": "fraction",
        "weight_decay": "fraction", "optimizer": "", "clip": "fraction", "energy_weight": "fraction",
        "force_weight": "fraction", "stress_weight": "fraction", "stress_limit": "fraction", "late": "fraction",
        "stall": "fraction", "late_energy_factor": "fraction", "curvature": "", "pull": "",
        "freeze": ("dict", "no rows"), "start": "", "schedule": "",
        "warmup": "fraction", "ema": "fraction", "valid_fraction": "fraction", "valid_every": "huge",
        "patience": "", "checkpoint_every": "huge", "seed": "huge", "device": "", "devices": "", "dtype": "",
        "callback": "class", "history": "surrogate", "checkpoint": "surrogate",
        "resume": "", "progress": "", "filters_from": "", "filters_elements": "",
    }),
}  # fmt: skip
TABLE = [(call, name) for call, (_, names) in CALLS.items() for name in names]


@pytest.mark.parametrize("call, name", TABLE, ids=lambda word: word)
def test_odd_arguments(made, call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    do, names = CALLS[call]
    allowed = names[name]
    for odd, value in ODD.items():
        if odd in (allowed if isinstance(allowed, tuple) else (allowed,)):
            continue
        try:
            do(made, **{name: value})
        except FastdescError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
        else:
            pytest.fail(f"{call} took {name}={value!r} ({odd})")


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "force_weight", "stress_weight", "warmup", "ema"])
def test_fractions_are_numbers(made, name):
    """They reach arrays as floats; as they are NumPy would refuse them."""
    train(made, **{name: Fraction(1, 2)})


@pytest.mark.parametrize("name", ["potential", "atoms", "particles", "skin", "device", "dtype"])
def test_odd_arguments_of_a_force_of_openmm(made, name):
    pytest.importorskip("openmm", reason="OpenMM is not installed")
    allowed = {"skin": "fraction"}
    for odd, value in ODD.items():
        if allowed.get(name) == odd:
            continue
        with pytest.raises(FastdescError) as refused:
            python_force(**{"potential": made[0], "atoms": made[1][0], name: value})
        assert "\n" not in str(refused.value)
    with pytest.raises(FastdescError, match="give 8 different numbers"):
        python_force(made[0], made[1][0], [*range(7), 2**40])
