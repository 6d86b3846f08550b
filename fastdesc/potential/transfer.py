"""Filters of a trained model for another, to train on or to keep (setting `freeze`)."""

from collections.abc import Mapping

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.potential import Potential
from fastdesc.potential.loading import load
from fastdesc.types import FilePath


def load_filters(
    potential: Potential,
    source: Potential | SplineFilters | FilePath,
    elements: Mapping[str | int, str | int] | None = None,
) -> None:
    """Replace spline filters of a potential by those of another; all that was trained on the old ones begins anew.

    Parameters
    ----------
    potential : Potential
        With SplineFilters; changed in place. But for the filters it is as untrained as when it was made.
    source : Potential, SplineFilters, str or Path
        Where the filters are; a path is that of a model file.
    elements : dict, optional
        Element of the source -> element of the potential, such as {"Si": "Ge"}; by default elements that both know.
        Filters that the source shares among all elements serve all elements.

    Raises
    ------
    InputError
        When the filters do not fit (the difference is named) or one of the two has none.
    FileFormatError
        When the file is not a model.

    Examples
    --------
    >>> load_filters(germanium, "si.h5", {"Si": "Ge"})  # doctest: +SKIP
    >>> fastdesc.train(germanium, frames, freeze=["descriptor/*"])  # doctest: +SKIP
    """
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    if not isinstance(source, Potential | SplineFilters):
        source = load(source)
    ours = _spline_filters("the potential", potential.descriptor)
    theirs = _spline_filters("the model to load filters from", getattr(source, "descriptor", source))
    ours.set_parameters(**ours.with_filters_of(theirs, elements))
    vars(potential).update(vars(Potential(ours, **potential.arguments)))


def _spline_filters(whose: str, descriptor: object) -> SplineFilters:
    """Return the descriptor, which must be SplineFilters."""
    if not isinstance(descriptor, SplineFilters):
        raise InputError(f"{whose} has {type(descriptor).__name__}; only SplineFilters have filters")
    return descriptor
