"""The families under test: one entry each.  A new family adds an entry here and tests/references/<name>.py; no test
is edited.

A reference module offers one function, slow, obvious and importing nothing of ours,

    features(rij (n_pairs, 3), i, j (n_pairs,), species (n_atoms,), theta, **settings) -> (n_atoms, n_features)

analytic in rij and in every array of theta (on the piece that real parts select), so that tests can differentiate it
by complex steps; it keeps the precision of its arguments, complex of double or of extended precision. `settings` are
the keywords of the variant.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from helpers.structures import ELEMENTS


@dataclass(frozen=True, eq=False)
class Variant:
    """Constructor keywords (all but species), and how features vanish at the cutoff.

    order_at_cutoff : features change as h**order when a neighbour comes h inside the cutoff.
    sees_other_rows : features depend on more than the pairs of their own row, and a pullback finds the others as
        mirrors of its own: tangents of mirrored pairs must be opposite, as those of pair vectors are.
    """

    keywords: dict
    order_at_cutoff: int
    sees_other_rows: bool = False


@dataclass(frozen=True, eq=False)
class Family:
    """What the battery needs to know of a family.

    name : of descriptors/<name>.py, kernels/<name>.cu and tests/references/<name>.py
    cls : the public class, an attribute of fastdesc
    variants : name -> Variant
    bad_keywords : (changed keywords, what the InputError must mention)
    randomised : (theta, rng) -> theta, parameters in general position
    fitted : (keywords, number of elements) -> keywords, where a variant says something of each element of the zoo
    """

    name: str
    cls: str
    variants: dict[str, Variant]
    bad_keywords: list[tuple[dict, str]]
    randomised: Callable = field(
        default=lambda theta, rng: {name: rng.uniform(-1, 1, x.shape) for name, x in theta.items()}
    )

    fitted: Callable = field(default=lambda keywords, n: keywords)

    @cached_property
    def reference(self):
        return importlib.import_module(f"references.{self.name}")

    def make(self, variant, species, **changed):
        """Return the descriptor of a variant."""
        import fastdesc

        n = len(species) if hasattr(species, "__len__") else 1    # what is refused need not have a length
        keywords = self.fitted(self.variants[variant].keywords, n)
        return getattr(fastdesc, self.cls)(species=species, **{**keywords, **changed})


# f_c vanishes as h^2. Gaussians do not vanish at the cutoff; value, slope and curvature of the Bessel combination do.
GAUSSIAN_MOMENTS = Family(
    name="gaussian_moments",
    cls="GaussianMoments",
    variants={
        "bessel": Variant(
            {"cutoff": 4.5, "n_radial": 5, "n_basis": 7, "basis": "bessel", "max_rank": 3,
             "contractions": (1, 2, 3, 4, 5, 6, 7, 8)},
            order_at_cutoff=5,
        ),
        "gaussian": Variant(
            {"cutoff": 4.5, "n_radial": 2, "n_basis": 4, "basis": "gaussian", "max_rank": 3,
             "contractions": (1, 2, 3, 4, 5, 6, 7, 8)},
            order_at_cutoff=2,
        ),
        "rank1": Variant(
            {"cutoff": 3.9, "n_radial": 1, "n_basis": 1, "basis": "gaussian", "max_rank": 1, "contractions": (1, 2)},
            order_at_cutoff=2,
        ),
        "chosen": Variant(
            {"cutoff": 4.5, "n_radial": 4, "n_basis": 3, "basis": "bessel", "max_rank": 2, "contractions": (6, 3)},
            order_at_cutoff=5,
        ),
        "factorised": Variant(
            {"cutoff": 4.5, "n_radial": 3, "n_basis": 4, "basis": "bessel", "max_rank": 3, "contractions": (1, 2, 5, 8),
             "species_mixing": "factorised", "n_embedding": 2},
            order_at_cutoff=5,
        ),
        "once": Variant(
            {"cutoff": 3.6, "n_radial": 3, "n_basis": 4, "basis": "bessel", "max_rank": 3, "contractions": (1, 2, 5, 8),
             "iterations": 1, "hidden": (4,)},
            order_at_cutoff=5, sees_other_rows=True,
        ),
        "twice": Variant(
            {"cutoff": 3.0, "n_radial": 9, "n_basis": 3, "basis": "gaussian", "max_rank": 2, "contractions": (1, 3),
             "species_mixing": "factorised", "n_embedding": 2, "iterations": 2, "message_contractions": (2, 1),
             "networks": "shared", "hidden": ()},
            order_at_cutoff=2, sees_other_rows=True,
        ),
        # More channels and basis functions than any kernel keeps in registers at a time.
        "wide": Variant(
            {"cutoff": 4.5, "n_radial": 9, "n_basis": 19, "basis": "gaussian", "max_rank": 3, "contractions": (1, 4)},
            order_at_cutoff=2,
        ),
    },
    bad_keywords=[
        ({"n_radial": 0}, "n_radial"),
        ({"n_radial": 2.5}, "n_radial"),
        ({"n_basis": 0}, "n_basis"),
        ({"n_basis": -3}, "n_basis"),
        ({"basis": "besel"}, "bessel"),
        ({"max_rank": 4}, "max_rank"),
        ({"max_rank": -1}, "max_rank"),
        ({"contractions": (1, 9)}, "9"),
        ({"contractions": ()}, "contraction"),
        ({"max_rank": 1, "contractions": (1, 3)}, "max_rank"),
        ({"seed": -1}, "seed came as -1"),
        ({"seed": "x"}, "seed came as 'x'"),
        ({"max_rank": 2.0}, "max_rank 2.0"),
        ({"max_rank": True}, "max_rank True"),
        ({"contractions": 5}, "list of numbers"),
        ({"species_mixing": "factorized"}, "factorised"),
        ({"n_embedding": 4, "species_mixing": "pairs"}, "n_embedding is 4"),
        ({"n_embedding": 0, "species_mixing": "factorised"}, "n_embedding came as 0"),
        ({"contractions": (1.0,)}, "1.0"),
        ({"contractions": ([1],)}, "contractions"),
        ({"n_basis": 10**9}, "from 1 to 1000"),
        ({"n_radial": 1000, "contractions": (8,), "max_rank": 3}, "1000000000 features and 1000000 are allowed"),
        ({"iterations": -1}, "iterations came as -1"),
        ({"iterations": 0, "message_contractions": (1,)}, "without iterations nothing sees them"),
        ({"iterations": 1, "message_contractions": (9,)}, "message_contractions .9. cannot be had"),
        ({"networks": "per_atom"}, "per_species"),
        ({"hidden": 64}, "hidden"),
        ({"activation": "sulu"}, "silu"),
    ],
    randomised=lambda theta, rng: {
        name: rng.uniform(-1, 1, x.shape) * (0.3 if name.startswith("network") else 1) for name, x in theta.items()
    },
)  # fmt: skip

# f_c vanishes as h^4, and with it a density.
EMBEDDED_DENSITY = Family(
    name="embedded_density",
    cls="EmbeddedDensity",
    variants={
        "hyper": Variant(
            {"cutoff": 4.4, "n_radial": 8, "l_max": 2, "iterations": 0, "contraction": "hyper", "n_features": 14,
             "normalized": True},
            order_at_cutoff=4,
        ),
        "raw": Variant(
            {"cutoff": 4.4, "n_radial": 5, "l_max": 3, "iterations": 0, "contraction": "hyper", "n_features": 9,
             "normalized": False},
            order_at_cutoff=4,
        ),
        "none": Variant(
            {"cutoff": 4.4, "n_radial": 3, "l_max": 3, "iterations": 0, "contraction": "none", "normalized": True},
            order_at_cutoff=4,
        ),
        # More radial functions than any kernel keeps in registers at a time.
        "wide": Variant(
            {"cutoff": 4.4, "n_radial": 19, "l_max": 1, "iterations": 0, "contraction": "hyper", "n_features": 3,
             "normalized": True},
            order_at_cutoff=4,
        ),
        "bodyless": Variant(
            {"cutoff": 4.4, "n_radial": 2, "l_max": 0, "iterations": 0, "contraction": "hyper", "n_features": 5,
             "normalized": False},
            order_at_cutoff=4,
        ),
        # Arrays of one row, from whose shape nobody can tell how far rows are apart.
        "single": Variant(
            {"cutoff": 3.0, "n_radial": 1, "l_max": 1, "iterations": 1, "contraction": "hyper", "n_features": 1,
             "normalized": True, "hidden": (3,)},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "once": Variant(
            {"cutoff": 3.6, "n_radial": 3, "l_max": 2, "iterations": 1, "contraction": "hyper", "n_features": 6,
             "normalized": True, "networks": "per_species", "hidden": (5, 4)},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "thrice": Variant(
            {"cutoff": 3.6, "n_radial": 3, "l_max": 2, "iterations": 3, "contraction": "hyper", "n_features": 6,
             "normalized": True, "networks": "shared", "hidden": (4,), "activation": "tanh"},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "twice_cubic": Variant(
            {"cutoff": 2.4, "n_radial": 9, "l_max": 3, "iterations": 2, "contraction": "hyper", "n_features": 6,
             "normalized": False, "hidden": ()},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "once_none": Variant(
            {"cutoff": 3.6, "n_radial": 3, "l_max": 2, "iterations": 1, "contraction": "none", "n_features": 9,
             "normalized": True, "hidden": (5,), "activation": "softplus"},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        # As published models are: radial functions may grow with the distance, each iteration has its own `hyper`.
        "by_iteration": Variant(
            {"cutoff": 3.0, "n_radial": 3, "l_max": 2, "iterations": 2, "contraction": "hyper_by_iteration",
             "n_features": 6, "normalized": True, "exponents": "any", "hidden": (4,)},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "residual": Variant(
            {"cutoff": 3.6, "n_radial": 3, "l_max": 2, "iterations": 1, "contraction": "hyper", "n_features": 6,
             "normalized": True, "hidden": (4, 3), "activation": "trained_silu", "blocks": 1, "layer_norm": True},
            order_at_cutoff=4, sees_other_rows=True,
        ),
        "residual_shared": Variant(
            {"cutoff": 3.0, "n_radial": 3, "l_max": 1, "iterations": 2, "contraction": "hyper_by_iteration",
             "n_features": 5, "normalized": True, "hidden": (4,), "activation": "trained_isru", "blocks": 2,
             "networks": "shared"},
            order_at_cutoff=4, sees_other_rows=True,
        ),
    },
    bad_keywords=[
        ({"exponents": "negative"}, "exponents 'negative'"),
        ({"n_radial": 0}, "n_radial"),
        ({"n_radial": 2.5}, "n_radial"),
        ({"l_max": 4}, "l_max"),
        ({"l_max": -1}, "l_max"),
        ({"iterations": -1}, "iterations came as -1"),
        ({"iterations": 0.5}, "iterations"),
        ({"contraction": "hyperr"}, "hyper"),
        ({"contraction": "hyper", "n_features": 0}, "n_features"),
        ({"contraction": "none", "n_features": 5}, "n_features came as 5"),
        ({"normalized": "yes"}, "normalized"),
        ({"networks": "per_atom"}, "per_species"),
        ({"hidden": 64}, "hidden"),
        ({"hidden": (64, 0)}, "hidden"),
        ({"activation": "sulu"}, "silu"),
        ({"blocks": 1, "activation": "tanh"}, "trained_silu"),
        ({"activation": "trained_silu", "hidden": ()}, "hidden came empty"),
        ({"activation": "trained_isru", "hidden": (4,), "blocks": -1}, "blocks came as -1"),
    ],
    randomised=lambda theta, rng: {
        name: rng.uniform(-1, 1, x.shape) * (0.3 if name.startswith(("network", "exponents")) else 1)
        + 2.0 * (name == "r_s")
        for name, x in theta.items()
    },
)  # fmt: skip

def own_knots(n_elements, n_pair, seed):
    """Knots of which no two are alike, within cutoffs of 4.5 Å and 3.9 Å, some far within; cosines beyond +-1 too."""
    rng = np.random.default_rng(seed)

    def grids(n, x0, x1):
        first, last = rng.uniform(*x0, n), rng.uniform(*x1, n)
        return [[float(a), float(b), int(c)] for a, b, c in zip(first, last, rng.integers(2, 6, n), strict=True)]

    return {
        "pair": [grids(n_elements, (0.5, 1.4), (2.5, 4.4)) for _ in range(n_pair)],
        "triplet_radial": grids(n_elements, (0.6, 1.3), (2.2, 3.8)),
        "triplet_angular": grids(n_elements * (n_elements + 1) // 2, (-1.1, -0.8), (0.7, 1.2)),
    }


def knots_of_fewer(keywords, n):
    """Knots of the first n elements alone."""
    if "knots" not in keywords:
        return keywords
    lengths = {"triplet_radial": n, "triplet_angular": n * (n + 1) // 2}
    knots = {name: grids[: lengths.get(name)] for name, grids in keywords["knots"].items()}
    knots["pair"] = [grids[:n] for grids in knots["pair"]]
    return {**keywords, "knots": knots}


# Radial filters end at the cutoff with value and slope zero, with a natural end the curvature too. The first variant
# has a straight part below r_min, and lanes that no filter uses; the last has more filters than a vector has lanes.
SPLINE_FILTERS = Family(
    name="spline_filters",
    cls="SplineFilters",
    fitted=knots_of_fewer,
    variants={
        "clamped": Variant(
            {"cutoff": 4.5, "triplet_cutoff": 3.9, "r_min": 1.2, "n_pair": 3, "n_triplet": 5, "n_knots": 6,
             "ends": ("clamped", "clamped"), "angular_ends": ("natural", "natural"), "shared": False},
            order_at_cutoff=2,
        ),
        "natural": Variant(
            {"cutoff": 4.2, "triplet_cutoff": 4.2, "r_min": 0.8, "n_pair": 1, "n_triplet": 1, "n_knots": 7,
             "ends": ("natural", "natural"), "angular_ends": ("clamped", "natural")},
            order_at_cutoff=3,
        ),
        "pairs": Variant(
            {"cutoff": 4.5, "triplet_cutoff": 3.0, "r_min": 1.0, "n_pair": 9, "n_triplet": 0, "n_knots": 4},
            order_at_cutoff=2,
        ),
        "many": Variant(
            {"cutoff": 4.5, "triplet_cutoff": 3.5, "r_min": 1.0, "n_pair": 18, "n_triplet": 18, "n_knots": 3,
             "angular_ends": ("clamped", "clamped")},
            order_at_cutoff=2,
        ),
        # As the functions of published potentials are: cut off wherever they are at the cutoff.
        "own knots, cut": Variant(
            {"cutoff": 4.5, "triplet_cutoff": 3.9, "r_min": 1.0, "n_pair": 3, "n_triplet": 2,
             "ends": ("clamped", "free"), "angular_ends": ("clamped", "natural"),
             "knots": own_knots(len(ELEMENTS), 3, 0)},
            order_at_cutoff=0,
        ),
        # Pair filters in two groups of two, and one grid for all that is of triplets.
        "two groups": Variant(
            {"cutoff": 4.5, "triplet_cutoff": 3.9, "r_min": 1.2, "n_pair": 4, "n_triplet": 1, "n_knots": 5,
             "knots": {"pair": [[[1.2, 4.5, 6]] * 6] * 2 + [[[1.0, 4.5, 3]] * 6] * 2}},
            order_at_cutoff=2,
        ),
    },
    bad_keywords=[
        ({"n_pair": -1}, "n_pair"),
        ({"n_triplet": 2.5}, "n_triplet"),
        ({"n_pair": 0, "n_triplet": 0}, "at least one"),
        ({"n_knots": 2}, "n_knots"),
        ({"r_min": 0.0}, "r_min"),
        ({"r_min": 4.5}, "r_min"),
        ({"triplet_cutoff": 4.6}, "triplet_cutoff"),
        ({"triplet_cutoff": float("nan")}, "triplet_cutoff"),
        ({"ends": ("clamped", "naturl")}, "natural"),
        ({"ends": "clamped"}, "ends"),
        ({"angular_ends": ("natural",)}, "angular_ends"),
        ({"angular_ends": ("zero", "natural")}, "angular_ends"),
        ({"shared": 2}, "shared"),
        ({"ends": ("free", "clamped")}, "free"),
        ({"ends": ("clamped", "cut")}, "free"),
        ({"knots": [1.0, 4.0, 5]}, "dict"),
        ({"knots": {"pairs": []}}, "pairs"),
        ({"knots": {"pair": [[1.0, 4.0, 5]]}}, "by filter"),
        ({"knots": {"triplet_radial": "abc"}}, "abc"),
        ({"knots": {"triplet_radial": [[1.0, 4.0]] * 6}}, "number of knots"),
        ({"knots": {"triplet_radial": [[1.0, 3.0, 1]] * 6}}, "number of knots"),
        ({"knots": {"triplet_radial": [[1.0, 3.0, 4.0]] * 6}}, "number of knots"),
        ({"knots": {"triplet_radial": [[3.0, 1.0, 5]] * 6}}, "must lie below"),
        ({"knots": {"triplet_radial": [["a", 3.0, 5]] * 6}}, "'a'"),
        ({"knots": {"triplet_radial": [[1.0, 5.0, 5]] * 6}}, "beyond the cutoff"),
    ],
)  # fmt: skip

FAMILIES = [GAUSSIAN_MOMENTS, EMBEDDED_DENSITY, SPLINE_FILTERS]


def in_single(family, variant):
    """Whether float32 is tried on a variant without --thorough, too: the first of each family, and one that iterates.

    Kernels are compiled for each precision by themselves, and variants for several widths.
    """
    return variant in (next(iter(family.variants)), "once")


def variants():
    """Return all (family, variant name), with ids for pytest."""
    import pytest

    return [pytest.param(f, v, id=f"{f.name}-{v}") for f in FAMILIES for v in f.variants]
