"""The loss of a batch of frames and its derivatives with respect to what a potential predicts.

    L = 1/B sum_f w_f [ a_E (dE_f / N_f)^2 + a_F |dF_f|^2 / (3 N_f) + a_S sum_c h(dW_fc / N_f) / 9 ]        (1)

over the B frames of a batch, with dE, dF, dW the errors of energy, forces and virial W = volume x stress: all three
terms are in eV^2 per atom and component. h(x) is x^2, and beyond a limit l its tangent, 2 l |x| - l^2 (Huber). A term
counts only for frames that carry its label. The derivatives

    e_f = dL/dE_f,    rho_i = dL/dF_i,    G_f = dL/dW_f                                                     (2)

make the pair tangents of the training pass: t_p = rho_j - rho_i - G_f r_p (forces are minus the gradient, the virial
is plus the strain derivative; fastdesc.training.dual_pass sweeps e E - D_t E).
"""

import math
from dataclasses import dataclass

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.structures import owners
from fastdesc.training.team import ALONE


@dataclass(frozen=True)
class LossWeights:
    """a_E, a_F, a_S and l of formula (1)."""

    energy: float
    force: float
    stress: float
    stress_limit: float = math.inf

    @classmethod
    def of(cls, settings):
        """Those of the beginning of a run with these Settings."""
        limit = math.inf if settings.stress_limit is None else settings.stress_limit
        return cls(settings.energy_weight, settings.force_weight, settings.stress_weight, limit)


@dataclass(frozen=True)
class Targets:
    """Labels of frames, NaN where a frame has none, with the weight w_f of every frame.

    Attributes
    ----------
    energy : (n_frames,) eV, without the reference energies
    forces : (n_atoms, 3) eV/Å
    virial : (n_frames, 3, 3) eV
    weight : (n_frames,)
    first : (n_frames + 1,) int
    n_atoms : int
    """

    energy: object
    forces: object
    virial: object
    weight: object
    first: object
    n_atoms: int


@dataclass(frozen=True)
class Residuals:
    """The loss, formula (1), and its derivatives (2); `errors` is what metrics are made of. All on one device."""

    loss: object
    de: object
    rho: object
    strain: object
    errors: dict


def residuals(targets, energy, forces, virial, weights):
    """Compare predictions with targets.

    Parameters
    ----------
    targets : Targets
    energy, forces, virial : arrays shaped like the targets'
    weights : LossWeights

    Returns
    -------
    Residuals
        de per atom (n_atoms,), rho (n_atoms, 3), strain (n_frames, 3, 3) = -G.
    """
    xp = namespace(energy)
    of_energy = energy_residuals(targets, energy, weights)
    counts, per_frame, frame = _frames(targets, xp)
    force_error = _known(xp, forces, targets.forces)
    virial_error = _known(xp, virial, targets.virial)

    to_force = (weights.force * per_frame / (3 * counts))[frame][:, None]
    to_virial = (weights.stress * per_frame / (9 * counts**2))[:, None, None]
    limit = weights.stress_limit * counts[:, None, None]
    within = xp.clip(virial_error, -limit, limit)
    loss = (to_force * force_error**2).sum() + (to_virial * within * (2 * virial_error - within)).sum()
    errors = {
        **of_energy.errors,
        "forces": force_error,
        "stress": virial_error / counts[:, None, None],
        "has_forces": xp.isfinite(targets.forces),
        "has_stress": xp.isfinite(targets.virial),
    }
    return Residuals(
        of_energy.loss + loss, of_energy.de, 2 * to_force * force_error, -2 * to_virial * within, errors
    )


def energy_residuals(targets, energy, weights):
    """Compare energies with targets: the first term of (1); `rho` and `strain` are None."""
    xp = namespace(energy)
    counts, per_frame, frame = _frames(targets, xp)
    error = _known(xp, energy, targets.energy)
    to_energy = weights.energy * per_frame / counts**2
    errors = {"energy": error / counts, "has_energy": xp.isfinite(targets.energy)}
    return Residuals((to_energy * error**2).sum(), (2 * to_energy * error)[frame], None, None, errors)


def _frames(targets, xp):
    """Number of atoms and w_f / B of every frame, and the frame of every atom."""
    counts = xp.diff(targets.first)
    return counts, targets.weight / len(counts), owners(targets.first, targets.n_atoms)


def _known(xp, predicted, target):
    """Error, zero where there is no label; that of a prediction which is not finite is not finite either."""
    return xp.where(xp.isfinite(target), predicted - target, 0.0)


class Metrics:
    """Mean absolute and root-mean-square errors, gathered batch by batch where they are, fetched by `result`.

    `like` is an array of the device where they are; `sums` what was gathered before, as `gathered` returns it.
    """

    names = ("energy", "forces", "stress")

    def __init__(self, like, sums=None):
        xp = namespace(like)
        self._sums = xp.zeros((len(self.names), 3)) if sums is None else xp.array(sums)

    def add(self, errors):
        """Add the `errors` of a Residuals."""
        for sums, name in zip(self._sums, self.names, strict=True):
            if name in errors:
                known, e = errors[f"has_{name}"], errors[name]
                sums += namespace(e).stack([known.sum(), abs(e).sum(), (e**2).sum()])

    def gathered(self, team=ALONE):
        """What all members of a Team have gathered, (3, 3) on the host; from here on the first of them holds it."""
        (sums,) = team.sum([self._sums])
        self._sums = sums if team.rank == 0 else namespace(sums).zeros_like(sums)
        return to_host(sums).copy()

    def result(self, team=ALONE):
        """Return {"energy_mae": eV/atom, "forces_mae": eV/Å, "stress_mae": eV/atom (virial), ..., "_rmse"}.

        Of what all members of a Team have gathered.
        """
        (sums,), out = team.sum([self._sums]), {}
        for name, (n, absolute, square) in zip(self.names, to_host(sums).tolist(), strict=True):
            if n:
                out[f"{name}_mae"] = absolute / n
                out[f"{name}_rmse"] = (square / n) ** 0.5
        return out
