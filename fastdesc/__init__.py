"""fastdesc: fast descriptors of atomic environments, with analytic derivatives, on CPU and GPU."""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "GaussianMoments": "fastdesc.descriptors.gaussian_moments",
    "EmbeddedDensity": "fastdesc.descriptors.embedded_density",
    "SplineFilters": "fastdesc.descriptors.spline_filters",
    "Potential": "fastdesc.potential",
    "Pairs": "fastdesc.pairs",
    "Structures": "fastdesc.structures",
    "FastdescCalculator": "fastdesc.calculator",
    "featurize": "fastdesc.features",
    "read_frames": "fastdesc.io.frames",
    "convert": "fastdesc.features",
    "read_features": "fastdesc.features.reader",
    "open_features": "fastdesc.features.reader",
    "StructureFeatures": "fastdesc.features.transformer",
    "select_diverse": "fastdesc.features.selection",
    "train": "fastdesc.training",
    "load_filters": "fastdesc.potential.transfer",
    "load": "fastdesc.potential.loading",
    "read_meam_spline": "fastdesc.potential.meam",
    "write_meam_spline": "fastdesc.potential.meam",
    "FastdescError": "fastdesc.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    """Import a public name on first use, so that `import fastdesc` costs nothing and touches no CUDA."""
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastdesc' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
