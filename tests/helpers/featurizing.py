"""What tests of featurizing share: a descriptor whose features say where they come from, and frames."""

import gzip

import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from fastdesc.backend import threads
from fastdesc.descriptors.training_hints import TrainingHints
from fastdesc.errors import InputError
from fastdesc.features import open_features


class Fake:
    """A descriptor whose features say where they come from."""

    family = "fake"
    n_features = 2

    def __init__(self, scale=1.0, fails_at=None):
        self.scale, self.fails_at, self.calls, self.threads = scale, fails_at, [], []
        self.parameters = {"beta": np.arange(3.0)}

    def get_params(self):
        return {"scale": self.scale, "species": ("Cu",)}

    def feature_names_out(self):
        return ["x", "y²"]

    def prepare(self, structures, dtype, device):
        if self.fails_at is not None and sum(self.calls) <= self.fails_at < sum(self.calls) + structures.n_frames:
            raise KeyboardInterrupt
        if (structures.numbers == 79).any():
            atom = int(np.flatnonzero(structures.numbers == 79)[0])
            raise InputError(f"{structures.name_atom(atom)} is Au, which the model does not know")
        return structures.positions.T.astype(dtype), structures, None

    @property
    def training_hints(self):
        return TrainingHints(self)

    def theta(self, dtype, device):
        return {}

    def prepared(self, theta, dtype):
        return theta

    def forward(self, x, structures, species, theta):
        self.calls.append(structures.n_frames)
        self.threads.append(threads.n_threads())
        return self.scale * np.stack([x[0], x[1] ** 2]), None

    def compute(self, frames):
        x = np.concatenate([a.positions for a in frames])
        return self.scale * np.stack([x[:, 0], x[:, 1] ** 2], 1)


def frames(n=10):
    out = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, k % 3 + 1)
        atoms.rattle(0.1, seed=k)
        atoms.info["id"] = k
        if k % 4:
            rng = np.random.default_rng(k)
            atoms.calc = SinglePointCalculator(
                atoms, energy=-k * 1.5, forces=rng.normal(size=(len(atoms), 3)), stress=rng.normal(size=6)
            )
        out.append(atoms)
    return out


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def table(path):
    with open_features(path) as f:
        names = ("energies", "forces", "stress", "numbers", "offsets", "number", "index", "file")
        return {"features": f[:], **{name: f.file[name][...] for name in names}, "id": f.table().get("id")}


def same(a, b, exact=True):
    for name in a:
        if a[name] is not None and b[name] is not None:
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=0 if exact else 1e-7, err_msg=name)


def messy(path, compress=False):
    """Ten frames; 2 has a word for a number, 5 loses a line (and takes 6 with it), the last is cut short."""
    plain = path.with_suffix("") if compress else path
    write(plain, frames(), format="extxyz")
    lines = plain.read_text().splitlines(keepends=True)
    starts = [k for k, line in enumerate(lines) if line.strip().isdecimal()]
    lines[starts[2] + 2] = "Cu nonsense 0 0 0 0 0\n"
    lines[starts[5] + 3] = ""
    text = "".join(lines[:-1])
    if compress:
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
