"""Evaluation in stages: domains that exchange values of their ghosts find what one process finds."""

import threading
from functools import partial
from itertools import product

import numpy as np
import pytest
from ase.build import bulk
from helpers.backends import BACKENDS, HERE
from helpers.families import EMBEDDED_DENSITY, variants

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.pairs.ghost_list import GhostList
from fastdesc.potential.evaluation import energies_and_forces

SKIN = 0.4


def frame():
    """A triclinic crystal, shaken, thinner than the cutoffs in one direction: atoms see images of themselves."""
    atoms = bulk("Cu", "fcc", a=3.7).repeat((3, 2, 1))
    rng = np.random.default_rng(5)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.05, (3, 3))), scale_atoms=True)
    atoms.set_chemical_symbols([("Cu", "Au")[k % 3 == 0] for k in range(len(atoms))])
    return atoms


def potential(family, variant, seed=1):
    descriptor = family.make(variant, ["Cu", "Au"])
    rng = np.random.default_rng(seed)
    descriptor.set_parameters(**family.randomised(descriptor.parameters, rng))
    out = fd.Potential(descriptor, hidden=(8,), seed=2)
    out.reference = np.array([-1.0, -2.0])
    q = descriptor.compute(frame())
    out.scaler = FeatureScaler(q.mean(0), q.std(0) + 1e-3 * abs(q).max())
    return out


class Domains:
    """A frame cut into domains along its first lattice vector, each with the ghosts it needs, and their exchange."""

    def __init__(self, atoms, cutoff, n):
        images = np.array(list(product(range(-4, 5), range(-4, 5), range(-6, 7))))
        x = (atoms.positions[None] + (images @ atoms.cell.array)[:, None]).reshape(-1, 3)
        owner = np.tile(np.arange(len(atoms)), len(images))
        home = np.flatnonzero((images == 0).all(1))[0] * len(atoms) + np.arange(len(atoms))
        domain = np.minimum((atoms.get_scaled_positions()[:, 0] * n).astype(int), n - 1)
        self.arrived, self.values, self.all = threading.Barrier(n), [None] * n, []
        for d in range(n):
            own = home[domain == d]
            near = np.linalg.norm(x[own][:, None] - x[None], axis=2) < cutoff
            ghosts = np.setdiff1d(np.flatnonzero(near.any(0)), own)
            everyone = np.concatenate([own, ghosts])
            seen = near[:, everyone]
            seen[np.arange(len(own)), np.arange(len(own))] = False
            row, j = np.concatenate([[0], np.cumsum(seen.sum(1))]), np.nonzero(seen)[1].astype(np.int32)
            self.all.append((x[everyone], owner[everyone], len(own), row, j))

    def exchange(self, d, atoms):
        return Exchange(self, d, atoms)


class Exchange:
    """What one domain, whose list has the given atoms, sees of the exchange: it waits for the others."""

    def __init__(self, domains, d, atoms):
        self.domains, self.d = domains, d
        self.owner, self.n_own = domains.all[d][1][atoms], domains.all[d][2]
        self.forwards = self.reverses = 0

    def _everyone(self, values):
        self.domains.arrived.wait()
        self.domains.values[self.d] = values.copy(), self.owner, self.n_own
        self.domains.arrived.wait()
        return self.domains.values

    def forward(self, values):
        self.forwards += 1
        home = np.empty((1 + max(o.max() for _, o, _ in self._everyone(values)), values.shape[1]))
        for theirs, owner, n in self.domains.values:
            home[owner[:n]] = theirs[:n]
        values[self.n_own :] = home[self.owner[self.n_own :]]

    def reverse(self, values):
        self.reverses += 1
        total = np.zeros((1 + max(o.max() for _, o, _ in self._everyone(values)), values.shape[1]))
        for theirs, owner, _ in self.domains.values:
            np.add.at(total, owner, theirs)
        values[: self.n_own] = total[self.owner[: self.n_own]]


def sees_other_rows(family, variant):
    return family.variants[variant].sees_other_rows


def evaluate(model, domains, d, species, cutoff):
    """Owners, energies of the domain's own atoms, and what it finds for the forces on all of its atoms."""
    x, owner, n_own, row, j = domains.all[d]
    ghosts = GhostList(np.arange(n_own, dtype=np.int32), row, j, species[owner])
    pairs, rij = ghosts.pairs, ghosts.vectors(x, model.scale.dtype)
    pairs.exchange = domains.exchange(d, ghosts.atoms)
    out, forces, _ = energies_and_forces(model, rij, pairs.centres(n_own), ghosts.species)
    return owner[ghosts.atoms], out, forces, pairs.exchange


@pytest.mark.parametrize(("family", "variant"), variants())
@pytest.mark.parametrize("n", [1, 3])
def test_domains_find_what_one_process_finds(family, variant, n):
    atoms, model_of = frame(), potential(family, variant)
    model, cutoff = model_of.model(), model_of.descriptor.cutoff
    species = np.array([model_of.descriptor.species_numbers.index(z) for z in atoms.numbers], np.int32)
    domains = Domains(atoms, cutoff + SKIN, n)
    found = [None] * n

    def work(d):
        found[d] = evaluate(model, domains, d, species, cutoff)

    threads = [threading.Thread(target=work, args=(d,)) for d in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    energies, forces = np.zeros(len(atoms)), np.zeros((len(atoms), 3))
    iterations = getattr(model_of.descriptor, "iterations", 0)
    for owner, e, f, exchange in found:
        energies[owner[: len(e)]] = e
        np.add.at(forces, owner, f)
        assert (exchange.forwards, exchange.reverses) == (iterations, iterations)
    expected = model_of.predict(atoms)
    assert abs(expected.forces).max() > 1e-3
    energies += model_of.reference[species]
    assert abs(energies - expected.energies).max() <= 1e-12 * abs(expected.energies).max()
    assert abs(forces - expected.forces).max() <= 1e-12 * abs(expected.forces).max()


@pytest.mark.skipif("emulated" not in HERE, reason="the emulator of CUDA sources cannot be built here")
@pytest.mark.parametrize(("family", "variant"), [p for p in variants() if sees_other_rows(*p.values)])
def test_cuda_sources_take_lists_with_ghosts(family, variant):
    """Coefficients are of all atoms, densities of the centres alone: kernels are told both numbers."""
    atoms, model_of = frame(), potential(family, variant)
    species = np.array([model_of.descriptor.species_numbers.index(z) for z in atoms.numbers], np.int32)
    domains = Domains(atoms, model_of.descriptor.cutoff, 1)
    work = partial(evaluate, model_of.model(), domains, 0, species, model_of.descriptor.cutoff)
    expected = work()
    with BACKENDS["emulated"][0]():
        found = work()
    for k in (1, 2):
        assert abs(found[k] - expected[k]).max() <= 1e-10 * abs(expected[k]).max()


def test_atoms_left_out_are_not_seen():
    """Without the gold atoms, the copper atoms are as in a frame that never had them."""
    own = EMBEDDED_DENSITY.variants
    model_of = potential(EMBEDDED_DENSITY, next(v for v in own if own[v].keywords.get("iterations")))
    atoms, cutoff = frame(), model_of.descriptor.cutoff
    copper = atoms[atoms.numbers == 29]
    species = np.where(atoms.numbers == 29, 0, -1).astype(np.int32)
    domains = Domains(atoms, cutoff + SKIN, 1)
    x, owner, n_own, row, j = domains.all[0]
    ghosts = GhostList(np.arange(n_own, dtype=np.int32), row, j, species[owner])
    assert ghosts.n_own == len(copper) and (atoms.numbers[owner[ghosts.atoms]] == 29).all()
    pairs, rij = ghosts.pairs, ghosts.vectors(x, "float64")
    domains.all[0] = (x, owner, ghosts.n_own, row, j)
    pairs.exchange = domains.exchange(0, ghosts.atoms)
    _, found, _ = energies_and_forces(model_of.model(), rij, pairs.centres(ghosts.n_own), ghosts.species)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, owner[ghosts.atoms], found)
    expected = model_of.predict(copper).forces
    assert abs(forces[atoms.numbers == 29] - expected).max() <= 1e-12 * abs(expected).max()


def test_a_list_that_is_not_symmetric_is_refused():
    row, j = np.array([0, 1, 1]), np.array([1], np.int32)
    with pytest.raises(InputError, match="not symmetric"):
        GhostList(np.arange(2, dtype=np.int32), row, j, np.zeros(2, np.int32))
