"""A small learning loop: copper and gold, labelled by EMT, and calculators that misbehave."""

import os
import time

from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.io import write

from fastdesc.cli.demo import crystals

LOOP = """
[data]
train = "train.extxyz"
test = "test.extxyz"
valid_fraction = 0.2
[explore]
temperatures = [300, 900]
trajectories = 2
steps = 8
every = 4
timestep = 4.0
rattle = 0.05
strain = 0.01
[select]
number = 3
[label]
calculator = "ase.calculators.emt:EMT"
workers = 0
[stop]
rounds = 2
grade = 0.01
[descriptor]
cutoff = 3.5
n_radial = 2
n_basis = 3
max_rank = 1
[potential]
hidden = [6]
[training]
epochs = 4
batch_size = 4
checkpoint_every = 2
[further]
anew = false
[output]
plots = false
"""


def make_loop(folder, text=LOOP):
    """Write a configuration and its structures; return the path of the former."""
    folder.mkdir(exist_ok=True)
    write(folder / "train.extxyz", crystals(6, 0))
    write(folder / "test.extxyz", crystals(3, 1))
    (folder / "loop.toml").write_text(text)
    return folder / "loop.toml"


MOODY = "helpers.loops:Moody"


def with_gold(*counts):
    """Cells of copper with so many gold atoms each."""
    frames = []
    for k in counts:
        atoms = bulk("Cu", cubic=True)
        atoms.numbers[:k] = 79
        frames.append(atoms)
    return frames


class Moody(Calculator):
    """EMT that fails on some structures: it raises, ends the process, or goes on for ever, where it meets so many gold
    atoms. `made` counts the calculators of this process.
    """

    made = 0

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE's)

    def __init__(self, raises=(), ends=(), waits=()):
        super().__init__()
        self.raises, self.ends, self.waits, self.emt = raises, ends, waits, EMT()
        Moody.made += 1

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        gold = int((atoms.numbers == 79).sum())
        if gold in self.ends:
            os._exit(7)
        while gold in self.waits:
            time.sleep(1)
        if gold in self.raises:
            raise RuntimeError("it did not\nconverge")
        self.results = {name: self.emt.get_property(name, atoms) for name in ("energy", "forces")}
