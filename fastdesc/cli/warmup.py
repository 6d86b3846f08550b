"""`fastdesc warmup`: compile what the work of a family needs, before it is needed."""

import tempfile
import time
import warnings

import numpy as np
from ase import Atoms

import fastdesc as fd
from fastdesc.backend.compilation import compilation
from fastdesc.backend.private_folder import cache_base
from fastdesc.cli.options import JOBS
from fastdesc.descriptors import FAMILIES, family_class
from fastdesc.errors import FastdescWarning, InputError


def warmup(families, dtypes, jobs, say):
    """Compile kernels by small work of each kind.

    Parameters
    ----------
    families, dtypes, jobs : list of str
        Empty: all of them.
    say : function of str
    """
    _check_kept()
    classes = {name: family_class(name) for name in families or FAMILIES}
    began = time.perf_counter()
    for family, made in classes.items():
        for dtype in dtypes or ("float64", "float32"):
            for job in jobs or JOBS:
                before, start = len(compilation.kernels), time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FastdescWarning)    # the data are not meant to be learnt from
                    _work(made, dtype, job)
                n, seconds = len(compilation.kernels) - before, time.perf_counter() - start
                say(f"{family} {dtype} {job}: {n} kernels compiled, {seconds:.1f} s")
    say(f"{len(compilation.kernels)} kernels compiled in {time.perf_counter() - began:.0f} s; the others were there")


def _check_kept():
    """InputError where compiled kernels cannot be kept: all would be compiled in vain."""
    try:
        folder = cache_base()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"compiled kernels cannot be kept ({error.strerror}: {error.filename}); give FASTDESC_CACHE a folder that "
            "you may write to"
        ) from error


def _work(family, dtype, job):
    frames = _frames()
    potential = fd.Potential(family(species=["H", "O"], cutoff=5.0), hidden=(4,))
    if job == "features":
        potential.descriptor.compute(frames, dtype=dtype)
    elif job == "jacobian":
        potential.descriptor.compute(frames[:1], jacobian=True, dtype=dtype)
    elif job == "predictions":
        potential.predict(frames, dtype=dtype)
        potential.predict(frames, dtype=dtype, forces=False, stress=False)
    elif job == "dynamics":
        atoms = frames[0]
        atoms.calc = fd.FastdescCalculator(potential, dtype=dtype)
        for _ in range(2):
            atoms.get_forces()
            atoms.positions[0] += 0.01
    else:
        fd.train(potential, frames[:-1], frames[-1:], steps=2, dtype=dtype, progress=False)


def _frames():
    """Eight small periodic frames with labels."""
    from ase.calculators.singlepoint import SinglePointCalculator

    rng, frames = np.random.default_rng(0), []
    for _ in range(8):
        atoms = Atoms("OHHOHH", np.arange(18.0).reshape(6, 3) % 5, cell=[6, 6, 6], pbc=True)
        atoms.positions += rng.normal(0, 0.1, (6, 3))
        labels = {"energy": rng.normal(), "forces": rng.normal(size=(6, 3)), "stress": rng.normal(size=6)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames
