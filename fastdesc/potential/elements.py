"""New elements for a trained potential: what it says of the elements that it knows stays as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from fastdesc.checks import atomic_numbers
from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential import Potential


def add_elements(potential: Potential, species: Sequence[str | int]) -> Potential:
    """A potential that also knows further elements, to be trained on frames that have them.

    Energies, forces and stresses of frames of the old elements are those of before, to the last bit where the order of
    elements leaves sums as they are. What belongs to a new element begins as in a new potential: its parameters in the
    descriptor, and its network; its scale and direct weights are the means of the others. Its reference energy is 0
    until training fits it, with those of the old elements kept.

    Parameters
    ----------
    potential : Potential
        It stays as it is.
    species : sequence of symbols or atomic numbers
        Those that the potential knows may be among them.

    Returns
    -------
    Potential
        Elements in the order of their atomic numbers.

    Raises
    ------
    InputError
        When no element is new, or the potential has spline filters that all elements share.
    """
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    old = potential.descriptor
    known = tuple(old.species_numbers)
    new = [z for z in atomic_numbers(species) if z not in known]
    if not new:
        symbols = ", ".join(chemical_symbols[z] for z in known)
        raise InputError(f"species came as {species!r}, and the potential knows all of them already: {symbols}")
    arguments: dict[str, Any] = old.get_params() | {"species": [chemical_symbols[z] for z in (*known, *new)]}
    descriptor = type(old)(**arguments)
    place = [descriptor.species_numbers.index(z) for z in known]
    if isinstance(old, SplineFilters) and isinstance(descriptor, SplineFilters):
        if old.shared:
            raise InputError("the spline filters are shared by all elements, a new one would be like the old; make "
                             "a potential with shared=False")    # fmt: skip
        descriptor.set_parameters(**descriptor.with_filters_of(old))
    else:
        descriptor.set_parameters(**_filled(descriptor.parameters, old.parameters, place))
    out = Potential(descriptor, **potential.arguments)
    out.scaler = FeatureScaler(potential.scaler.mean, potential.scaler.scale)
    out.reference[place] = potential.reference
    out.scale = np.full(len(out.scale), potential.scale.mean())
    out.scale[place] = potential.scale
    out.direct_weights = np.tile(potential.direct_weights.mean(axis=0), (len(out.scale), 1))
    out.direct_weights[place] = potential.direct_weights
    if len(potential.networks) == 1:
        out.networks = list(potential.networks)
    else:
        for k, head in zip(place, potential.networks, strict=True):
            out.networks[k] = head
    out.training = dict(potential.training)
    out.without_reference = tuple(chemical_symbols[z] for z in new)
    return out


def _filled(new, old, place):
    """Parameters with those of the old elements at their new places, along every axis that has become longer."""
    out = {}
    for name, array in new.items():
        out[name] = array.copy()
        if name in old:
            axes = [place if a != b else range(b) for a, b in zip(array.shape, old[name].shape, strict=True)]
            out[name][np.ix_(*axes)] = old[name]
    return out
