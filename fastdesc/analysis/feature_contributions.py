"""What each feature contributes to energies and forces of a potential.

To first order around the mean of a feature over the atoms of an element, feature f of atom i contributes

    E_if = dE_i/dq_if (q_if - <q_f>),        F_f = the forces of dq_if = dE_i/dq_if for this f alone             (1)

to energy and forces; the forces of all features add up to those of the potential. A share is the root mean square of a
contribution, over atoms or force components, divided by the sum of those of all features.
"""

import numpy as np

from fastdesc.analysis.accuracy import three_digits
from fastdesc.backend.arrays import namespace, padded, resolve_device, resolve_dtype, to_host
from fastdesc.geometry import forces
from fastdesc.io.frames import read_frames
from fastdesc.potential.evaluation import energies_and_gradient
from fastdesc.structures import Structures

AT_ONCE = 4096
"""Atoms."""


def feature_contributions(potential, frames, device="cpu", dtype="float64"):
    """Contributions (1) of every feature over some frames.

    Parameters
    ----------
    potential : Potential
    frames : path, ase.Atoms or list of ase.Atoms
        Labels are not needed. The work is one pass per feature.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}

    Returns
    -------
    dict of str to dict
        By feature, in the descriptor's order: energy (eV) and forces (eV/Å), root mean squares; energy_share and
        forces_share, which add up to one over all features.

    Raises
    ------
    InputError
        For frames that cannot be used.
    """
    structures = Structures.from_ase(read_frames(frames))
    device, descriptor = resolve_device(device), potential.descriptor
    model = potential.model(resolve_dtype(dtype), device)
    n_species, names = len(descriptor.species_numbers), descriptor.feature_names_out()
    parts = list(structures.blocks(AT_ONCE))

    sums, counts = np.zeros((len(names), n_species)), np.zeros(n_species)
    for part in parts:
        rij, pairs, species = descriptor.prepare(part, model.scale.dtype, device)
        q = to_host(descriptor.forward(rij, pairs, species, model.theta)[0]).astype(np.float64)
        for z in range(n_species):
            own = to_host(species) == z
            sums[:, z] += q[:, own].sum(1)
            counts[z] += own.sum()
    mean = sums / np.maximum(counts, 1)

    energy, force = np.zeros(len(names)), np.zeros(len(names))
    for part in parts:
        arguments = descriptor.prepare(part, model.scale.dtype, device)
        rij, pairs, species = arguments
        dq = energies_and_gradient(model, *arguments, keep=True)[2].dq
        q, saved = descriptor.forward(*arguments, model.theta)
        deviation = to_host(q).astype(np.float64) - mean[:, to_host(species)]
        energy += ((to_host(dq) * deviation) ** 2).sum(1)
        one = padded(dq.shape, dq.dtype, dq)
        one[...] = namespace(dq).zeros_like(dq)
        for f in range(len(names)):
            one[f] = dq[f]
            through = forces(descriptor.pullback(*arguments, model.theta, saved, one), pairs)
            force[f] += float((through**2).sum())
            one[f] = 0
    energy, force = np.sqrt(energy / structures.n_atoms), np.sqrt(force / (3 * structures.n_atoms))
    rows = zip(names, energy, force, _shares(energy), _shares(force), strict=True)
    return {
        name: {"energy": float(e), "forces": float(f), "energy_share": float(s), "forces_share": float(t)}
        for name, e, f, s, t in rows
    }


def _shares(x):
    total = x.sum()
    return x / total if total > 0 else x


def contributions_table(contributions, most=40):
    """Return the contributions as text, the largest force first, in meV."""
    order = sorted(contributions, key=lambda name: -contributions[name]["forces"])
    width = max(map(len, [*order[:most], "feature"]))
    lines = [f"{'feature':{width}}{'energy':>10}{'share':>8}{'force':>10}{'share':>8}"]
    for name in order[:most]:
        s = contributions[name]
        e, f = (three_digits(1000 * s[k]) for k in ("energy", "forces"))
        lines.append(f"{name:{width}}{e:>10}{s['energy_share']:>8.1%}{f:>10}{s['forces_share']:>8.1%}")
    lines.append("root mean square over atoms, meV, and over force components, meV/Å")
    if len(order) > most:
        rest = sum(contributions[name]["forces_share"] for name in order[most:])
        lines.append(f"{len(order) - most} more features, together {rest:.1%} of the forces: --json has them all")
    return "\n".join(lines)
