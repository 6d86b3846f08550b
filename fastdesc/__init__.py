"""fastdesc: fast descriptors of atomic environments, with analytic derivatives, on CPU and GPU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "GaussianMoments": "fastdesc.descriptors.gaussian_moments",
    "EmbeddedDensity": "fastdesc.descriptors.embedded_density",
    "SplineFilters": "fastdesc.descriptors.spline_filters",
    "Potential": "fastdesc.potential",
    "Pairs": "fastdesc.pairs",
    "choose_cutoff": "fastdesc.pairs.choose_cutoff",
    "Structures": "fastdesc.structures",
    "FastdescCalculator": "fastdesc.calculator",
    "EnsembleCalculator": "fastdesc.calculator",
    "calculate_together": "fastdesc.images",
    "featurize": "fastdesc.features",
    "read_frames": "fastdesc.io.frames",
    "convert": "fastdesc.features",
    "read_features": "fastdesc.features.reader",
    "open_features": "fastdesc.features.reader",
    "StructureFeatures": "fastdesc.features.transformer",
    "select_diverse": "fastdesc.features.selection",
    "select_typical": "fastdesc.features.selection",
    "select_uncertain": "fastdesc.features.selection",
    "select_spanning": "fastdesc.features.spanning",
    "rarity": "fastdesc.features.rarity",
    "find_duplicates": "fastdesc.features.duplicates",
    "SimilarityKernel": "fastdesc.features.similarity",
    "train": "fastdesc.training",
    "fit_uncertainty": "fastdesc.training",
    "shallow_ensemble": "fastdesc.training",
    "load_filters": "fastdesc.potential.transfer",
    "add_elements": "fastdesc.potential.elements",
    "Ensemble": "fastdesc.potential.ensemble",
    "elastic_constants": "fastdesc.potential.elastic",
    "sparse_hessian": "fastdesc.potential.sparse_hessian",
    "last_layer_features": "fastdesc.potential.last_layer_features",
    "load": "fastdesc.potential.loading",
    "read_meam_spline": "fastdesc.potential.meam",
    "read_apax": "fastdesc.potential.apax",
    "read_reann": "fastdesc.potential.reann",
    "write_meam_spline": "fastdesc.potential.meam",
    "FastdescError": "fastdesc.errors",
}
__all__ = ["__version__", *_PUBLIC]


if TYPE_CHECKING:    # what _PUBLIC says, for those who read without running
    from fastdesc.calculator import EnsembleCalculator as EnsembleCalculator
    from fastdesc.calculator import FastdescCalculator as FastdescCalculator
    from fastdesc.descriptors.embedded_density import EmbeddedDensity as EmbeddedDensity
    from fastdesc.descriptors.gaussian_moments import GaussianMoments as GaussianMoments
    from fastdesc.descriptors.spline_filters import SplineFilters as SplineFilters
    from fastdesc.errors import FastdescError as FastdescError
    from fastdesc.features import convert as convert
    from fastdesc.features import featurize as featurize
    from fastdesc.features.duplicates import find_duplicates as find_duplicates
    from fastdesc.features.rarity import rarity as rarity
    from fastdesc.features.reader import open_features as open_features
    from fastdesc.features.reader import read_features as read_features
    from fastdesc.features.selection import select_diverse as select_diverse
    from fastdesc.features.selection import select_typical as select_typical
    from fastdesc.features.selection import select_uncertain as select_uncertain
    from fastdesc.features.similarity import SimilarityKernel as SimilarityKernel
    from fastdesc.features.spanning import select_spanning as select_spanning
    from fastdesc.features.transformer import StructureFeatures as StructureFeatures
    from fastdesc.images import calculate_together as calculate_together
    from fastdesc.io.frames import read_frames as read_frames
    from fastdesc.pairs import Pairs as Pairs
    from fastdesc.pairs.choose_cutoff import choose_cutoff as choose_cutoff
    from fastdesc.potential import Potential as Potential
    from fastdesc.potential.apax import read_apax as read_apax
    from fastdesc.potential.elastic import elastic_constants as elastic_constants
    from fastdesc.potential.elements import add_elements as add_elements
    from fastdesc.potential.ensemble import Ensemble as Ensemble
    from fastdesc.potential.last_layer_features import last_layer_features as last_layer_features
    from fastdesc.potential.loading import load as load
    from fastdesc.potential.meam import read_meam_spline as read_meam_spline
    from fastdesc.potential.meam import write_meam_spline as write_meam_spline
    from fastdesc.potential.reann import read_reann as read_reann
    from fastdesc.potential.sparse_hessian import sparse_hessian as sparse_hessian
    from fastdesc.potential.transfer import load_filters as load_filters
    from fastdesc.structures import Structures as Structures
    from fastdesc.training import fit_uncertainty as fit_uncertainty
    from fastdesc.training import shallow_ensemble as shallow_ensemble
    from fastdesc.training import train as train


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import fastdesc` costs nothing and touches no CUDA."""
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastdesc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
