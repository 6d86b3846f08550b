"""Where the battery runs: Numba, CUDA C++ on the CPU emulator, and a real GPU where there is one.

Tests are made for the backends of this machine alone; `absent` says which ones are missing, and why, once for all.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from cuda_emulator import gcc_status, load
from helpers.battery import TOGETHER
from helpers.families import FAMILIES, in_single
from helpers.structures import ZOO

from fastdesc.backend import cuda
from fastdesc.backend.arrays import to_device, to_host

# The emulator is some hundred times slower than the kernels are meant to be: few structures, all of them telling.
EMULATED_ALONE = ("cluster_and_far_atom", "triclinic")
GPU, NO_GPU = cuda.gpu_status()
STATUS = {"numba": (True, ""), "emulated": gcc_status(), "cuda": (GPU, NO_GPU)}
"""Backend -> whether it is here, and why not."""


class Run:
    """A case on a device: takes and returns NumPy arrays."""

    def __init__(self, case, device):
        self.case, self.device = case, device
        self.pairs = case.pairs

    @contextmanager
    def on(self, pairs):
        """Use another pair list meanwhile."""
        before, self.pairs = self.pairs, pairs
        yield
        self.pairs = before

    def _put(self, x):
        if isinstance(x, dict):
            return {k: self._put(v) for k, v in x.items()}
        return to_device(x, self.device)

    def _arguments(self, rij, theta):
        rij = self.case.rij if rij is None else rij
        theta = self.case.theta if theta is None else theta
        pairs = self.pairs.to_device(self.device) if self.device != "cpu" else self.pairs
        return self._put(rij), pairs, self._put(self.case.species), self._put(theta)

    def forward(self, rij=None, theta=None, keep=False):
        """Return q and, with `keep`, what forward saved, as it is."""
        q, saved = self.case.descriptor.forward(*self._arguments(rij, theta))
        assert isinstance(q, np.ndarray) == (self.device == "cpu")
        return to_host(q), saved if keep else None

    def _pull(self, name, dq, rij, theta, saved):
        arguments = self._arguments(rij, theta)
        if saved is None:
            saved = self.case.descriptor.forward(*arguments)[1]
        return getattr(self.case.descriptor, name)(*arguments, saved, self._put(dq))

    def pullback(self, dq, rij=None, theta=None, saved=None):
        return to_host(self._pull("pullback", dq, rij, theta, saved))

    def pullback_parameters(self, dq, rij=None, theta=None, saved=None):
        return {k: to_host(x) for k, x in self._pull("pullback_parameters", dq, rij, theta, saved).items()}


@contextmanager
def emulator():
    """CUDA C++ runs on NumPy arrays; fails when none was asked for, for then nothing was tested."""
    asked = []

    def loader(path, names):
        asked.extend(names)
        return load(path, names)

    with cuda.executor(loader):
        yield
    assert asked, "no CUDA kernel ran"


BACKENDS = {"numba": (nullcontext, "cpu"), "emulated": (emulator, "cpu"), "cuda": (nullcontext, "cuda")}
HERE = [name for name in BACKENDS if STATUS[name][0]]
DOUBLE_AND_GPU = ["double", *(["cuda"] if GPU else [])]
"""Devices for what the host does for one: the double of CuPy, and a GPU where there is one."""


def absent():
    """Return one line for each backend that is not here."""
    return [f"not tested: backend '{name}', for {reason}" for name, (usable, reason) in STATUS.items() if not usable]


@contextmanager
def started(backend, case):
    """Yield the Run of a case on a backend."""
    context, device = BACKENDS[backend]
    with context():
        yield Run(case, device)


def runs():
    """Return pytest parameters (backend, (family, variant, structure)) for the backends that are here.

    Every variant on all structures together; the first of each family also on each structure alone. Backends follow
    each other, for they are held against the same numbers of the textbook. On the emulator most variants are checked
    once for a state of the sources.
    """

    def marks(backend, family, variant):
        return [pytest.mark.once] if backend == "emulated" and not in_single(family, variant) else []

    return [
        pytest.param(
            (backend, (family, variant, structure)), id=f"{backend}-{family.name}-{variant}-{structure}",
            marks=marks(backend, family, variant),
        )
        for family in FAMILIES
        for k, variant in enumerate(family.variants)
        for structure in (TOGETHER, *(() if k else ZOO))
        for backend in HERE
        if structure == TOGETHER or backend != "emulated" or structure in EMULATED_ALONE
    ]
