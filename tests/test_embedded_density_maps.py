"""The battery's tests of the maps on embedded densities with iterations.

Features depend on more than the pairs of their own row then, and a pullback finds the others as mirrors of its own: so
tangents must keep mirrored pairs opposite.
"""

import pytest
from backends import SKIPS, started
from battery import TOGETHER, Case
from families import Family, Variant
from test_family_battery import (  # noqa: F401
    test_dual_pullbacks_are_the_second_derivative,
    test_forces_and_virial_of_a_linear_energy,
    test_forward_equals_textbook,
    test_pairs_beyond_the_cutoff_change_nothing,
    test_parameters_without_tangents_may_stay_plain,
    test_pullback_is_the_adjoint,
    test_pushforward_equals_complex_step,
    test_single_precision_is_near_double,
    test_two_calls_agree_bit_for_bit_and_leave_their_arguments_alone,
)

BASE = {"cutoff": 3.6, "n_radial": 3, "l_max": 2, "contraction": "hyper", "n_features": 6, "normalized": True}
RECURSIVE = Family(
    name="embedded_density",
    cls="EmbeddedDensity",
    variants={
        "once": Variant({**BASE, "iterations": 1, "hidden": (5, 4), "networks": "per_species"}, 4),
        "thrice": Variant({**BASE, "iterations": 3, "hidden": (4,), "networks": "shared", "activation": "tanh"}, 4),
        "raw_cubic": Variant(
            {**BASE, "cutoff": 2.4, "l_max": 3, "n_radial": 9, "iterations": 2, "normalized": False, "hidden": ()}, 4
        ),
        "no_hyper": Variant(
            {**BASE, "iterations": 1, "contraction": "none", "n_features": 9, "hidden": (5,), "activation": "softplus"},
            4,
        ),
    },
    bad_keywords=[],
    randomised=lambda theta, rng: {
        name: rng.uniform(-1, 1, x.shape) * (0.3 if name.startswith("network") else 1) for name, x in theta.items()
    },
)  # fmt: skip
EVERYWHERE = ("lone_atom", "three_elements", "triclinic", "skewed", "cluster_and_far_atom", TOGETHER)
FEW = ("cluster_and_far_atom", "triclinic")  # on the emulator
BACKENDS = [("numba", EVERYWHERE), ("emulated", FEW), ("cuda", EVERYWHERE)]


class Opposite(Case):
    """A case whose tangents keep mirrored pairs opposite."""

    def direction(self, rng):
        trij, ttheta = super().direction(rng)
        return trij - trij[:, self.pairs.mirror], ttheta


def runs():
    """Return pytest parameters (backend, variant, structure); a backend that is not there skips, with why."""
    found = []
    for backend, structures in BACKENDS:
        usable, reason = SKIPS[backend]
        marks = [pytest.mark.skipif(not usable, reason=f"{backend}: {reason}")]
        for variant in RECURSIVE.variants:
            for structure in structures:
                value = (backend, variant, structure)
                found.append(pytest.param(value, id="-".join(value), marks=marks))
    return found


@pytest.fixture(params=runs())
def run(request):
    backend, variant, structure = request.param
    with started(backend, Opposite(RECURSIVE, variant, structure)) as run:
        yield run
