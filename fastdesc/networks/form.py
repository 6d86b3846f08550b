"""What a network is made of, apart from its numbers: widths, activation, residual blocks.

Two forms. A feed-forward network has hidden layers of the widths `hidden` (feed_forward.py). One with a trained
activation has residual blocks (residual.py): `hidden` are then the widths of a block, of which the first is that of
what goes from block to block.
"""

from collections import namedtuple

from fastdesc.checks import count, flag
from fastdesc.errors import InputError, nearest
from fastdesc.networks.activations import ACTIVATIONS

TRAINED = ("trained_silu", "trained_isru")
"""Activations with two trained numbers for each hidden value; residual.py has the formulas."""
MOST_BLOCKS = 100


class Form(namedtuple("Form", "hidden activation blocks layer_norm")):
    """Widths, name of the activation, number of residual blocks, and whether layers of a block are normalised."""

    __slots__ = ()

    @property
    def residual(self):
        """Whether the network is one of residual blocks."""
        return self.activation in TRAINED


def checked(hidden, activation, blocks, layer_norm):
    """Return the Form of these arguments; `hidden` has been judged.

    Raises
    ------
    InputError
        For an unknown activation, blocks of an activation that is not trained, or widths that no block can have.
    """
    if not isinstance(activation, str) or activation not in (*ACTIVATIONS, *TRAINED):
        known = ", ".join((*ACTIVATIONS, *TRAINED))
        near = nearest(activation, (*ACTIVATIONS, *TRAINED))
        raise InputError(f"activation {activation!r} is not known{near}; use one of {known}")
    count("blocks", blocks, 0, MOST_BLOCKS)
    flag("layer_norm", layer_norm)
    hidden = tuple(int(width) for width in hidden)
    if activation in ACTIVATIONS:
        if blocks or layer_norm:
            given = f"blocks={blocks!r}" if blocks else "layer_norm=True"
            raise InputError(
                f"{given} came with activation {activation!r}; residual blocks have 'trained_silu' or 'trained_isru'"
            )
    elif not hidden:
        raise InputError(f"hidden came empty with activation {activation!r}; give at least one width, such as (64,)")
    elif not blocks and (len(hidden) > 1 or layer_norm):
        what = f"hidden={hidden}" if len(hidden) > 1 else "layer_norm=True"
        raise InputError(f"{what} came with activation {activation!r} and no blocks; give blocks=1 or more")
    return Form(hidden, activation, int(blocks), bool(layer_norm))
