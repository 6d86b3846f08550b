"""Parameters of a potential by name, and what of it is no parameter but goes with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastdesc.checks import numbers
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.errors import InputError, nearest
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential.uncertainty import Uncertainty
from fastdesc.types import Array, Arrays, Float64


class Parameters:
    """What training changes in a Potential, which has these attributes: read, replaced and differentiated by name."""

    descriptor: Descriptor
    network: str
    networks: list[Any]
    scaler: FeatureScaler
    seen: np.ndarray | None
    scale: Float64
    direct_weights: Float64
    direct_columns: np.ndarray
    uncertainty: Uncertainty | None

    @property
    def parameters(self) -> dict[str, Float64]:
        """What training changes, by name: float64 arrays, in a fixed order."""
        networks = [network.parameters for network in self.networks]
        return self._named(self.descriptor.parameters, networks, self.scale, self.direct_weights)

    def _named(self, descriptor, networks, scale, direct):
        """Join parts into one dict; without a network there is no scale, without a direct term no direct."""
        out = {f"descriptor/{name}": array for name, array in descriptor.items()}
        out |= {f"network/{k}/{name}": array for k, own in enumerate(networks) for name, array in own.items()}
        if self.network != "none":
            out["scale"] = scale
        if len(self.direct_columns):
            out["direct"] = direct
        return out

    def named_gradient(self, dtheta: Arrays, dnetworks: Sequence[Any], dscale: Array, ddirect: Array | None) -> Arrays:
        """Gradient by the names of `parameters`, from what fastdesc.training.dual_pass returns."""
        unfolded = [
            network.unfolded(gradient, self.scaler, self.seen)
            for network, gradient in zip(self.networks, dnetworks, strict=True)
        ]
        return self._named(dtheta, unfolded, dscale, None if ddirect is None else ddirect[:, self.direct_columns])

    def set_parameters(self, parameters: Mapping[str, Array]) -> None:
        """Replace parameters by name.

        Raises
        ------
        InputError
            For an unknown name, a wrong shape, or values that are not finite; nothing is replaced then.
        """
        if not isinstance(parameters, Mapping):
            raise InputError(f"parameters came as a {type(parameters).__name__}; give a dict of names and arrays")
        known = self.parameters
        for name in parameters:
            if name not in known:
                raise InputError(f"the potential has no parameter {name!r}{nearest(name, known)}")
        new = {name: numbers(name, array, known[name].shape) for name, array in parameters.items()}
        self.uncertainty = None
        self.descriptor.set_parameters(**below("descriptor/", new))
        self.networks = [network.replaced(below(f"network/{k}/", new)) for k, network in enumerate(self.networks)]
        self.scale = new.get("scale", self.scale)
        self.direct_weights = new.get("direct", self.direct_weights)

    @property
    def buffers(self) -> Arrays:
        """What else the networks need, by name: arrays that training does not change."""
        return {f"network/{k}/{name}": a for k, own in enumerate(self.networks) for name, a in own.buffers.items()}

    def set_buffers(self, buffers: Mapping[str, Array]) -> None:
        """Replace buffers by name; InputError where they do not fit."""
        self.uncertainty = None
        self.networks = [network.replaced(below(f"network/{k}/", buffers)) for k, network in enumerate(self.networks)]

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(array.size for array in self.parameters.values())


def below(prefix, arrays):
    """Entries of a dict whose names begin with `prefix`, which is cut off."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
