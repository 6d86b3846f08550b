"""Published s-MEAM potentials as potentials: LAMMPS' meam/spline files read into a Potential, and written from one.

    E = sum_i sum_a w_{Zi,a} G2_i[a] + U_{Zi}(n_i) - U_{Zi}(0)                                              (1)

is a Potential over spline filters whose direct term is phi and whose network is one spline U, without bias. Numbers are
those of LAMMPS' pair style meam/spline to rounding; training may go on from there.
"""

from typing import Literal

import numpy as np

from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.descriptors.spline_filters.meam import from_filters, to_filters
from fastdesc.errors import InputError
from fastdesc.io.meam_spline import SplineFunction, read_functions, write_functions
from fastdesc.networks.scaler import fold
from fastdesc.networks.spline import SplineNetwork
from fastdesc.numerics.splines import Splines
from fastdesc.potential import Potential
from fastdesc.types import FilePath

FORM = (
    "only SplineFilters with n_triplet=1 under a Potential with network='spline' and hidden=(1,) can be of that form; "
    "train one, or run this potential with FastdescCalculator"
)
"""What to do with another model."""


def read_meam_spline(path: FilePath, element: str | None = None) -> Potential:
    """Read a file for LAMMPS' pair style meam/spline as a potential.

    Parameters
    ----------
    path : path-like
    element : str, optional
        Chemical symbol for a file of the older form, which does not name its element.

    Returns
    -------
    Potential
        Over SplineFilters with a pair filter per element of the centre, for phi, which enter directly, and with one
        pair filter and one triplet filter that make the density; network "spline", without bias.

    Raises
    ------
    InputError
        When there is no such file, or `element` is needed and missing, or not one that the file names.
    FileFormatError
        When the file is something else, truncated, or has knots that are not equally spaced; names the line.
    """
    descriptor, pair_weights, density_weights, U = to_filters(read_functions(path, element))
    n = len(U)
    potential = Potential(
        descriptor, network="spline", direct=[f"pair_{a}" for a in range(n)], bias=False, n_knots=U[0].splines.n_knots
    )
    potential.direct_weights = pair_weights[:, :n]
    potential.networks = [
        SplineNetwork(density_weights[None, n:], u.parameters[None], np.array([[u.splines.x0, u.splines.x1]]), False)
        for u in U
    ]
    return potential


def write_meam_spline(
    path: FilePath, potential: Potential, comment: str = "", form: Literal["named", "single"] = "named"
) -> None:
    """Write a potential as a file for LAMMPS' pair style meam/spline, exactly, whole or not at all.

    Parameters
    ----------
    path : path-like
    potential : Potential
        Over SplineFilters with one triplet filter, with network "spline" of one embedding function, whose inputs have
        the same weights for all elements, and zero energy for isolated atoms.
    comment : str
        First line of the file.
    form : {"named", "single"}
        "single" is the older form, for one element, which any LAMMPS can read.

    Raises
    ------
    InputError
        For any other potential: names what does not fit.
    """
    write_functions(path, functions_of(potential), comment, form)


def functions_of(potential):
    """Return the MeamSpline that a potential is; see `write_meam_spline`."""
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    descriptor = potential.descriptor
    if not isinstance(descriptor, SplineFilters):
        raise InputError(f"the descriptor is {type(descriptor).__name__}, which meam/spline cannot hold; {FORM}")
    if potential.repulsion is not None:
        raise InputError("the potential has a repulsion of nuclei, which meam/spline cannot hold; train one without")
    if potential.network != "spline" or potential.hidden != (1,):
        raise InputError(
            f"the potential has network {potential.network!r} with hidden {potential.hidden}, and meam/spline one "
            f"spline per element; {FORM}"
        )
    direct = np.zeros((len(potential.networks), descriptor.n_features))
    direct[:, potential.direct_columns] = potential.direct_weights
    if direct[:, descriptor.n_pair :].any():
        raise InputError(
            "the triplet filter enters the energy directly, and in meam/spline only through the density; name the "
            "pair filters in `direct` (direct=['pair_0', ..]) and train again"
        )
    density, U = zip(*(_embedding(potential, k) for k in range(len(potential.networks))), strict=True)
    for v in density[1:]:
        if not np.array_equal(v, density[0]):
            raise InputError(
                f"the density of the elements has different weights, {density[0].tolist()} and {v.tolist()}; "
                "meam/spline has none that depend on the centre: train with the networks' weights frozen"
            )
    return from_filters(descriptor, direct[:, : descriptor.n_pair], density[0], U)


def _embedding(potential, k):
    """v of one element, for all features, and its U(n) - U(0), shifted so that n is v times the features."""
    head, shift = potential.networks[k], np.zeros((1, 1)) if potential.bias else None
    ((weight, shift),) = fold([(head.weight, shift)], potential.scaler, potential.seen)
    b = 0.0 if shift is None else float(shift[0, 0])
    (x0, x1), n_knots = head.grid[0], head.n_knots
    U = SplineFunction(Splines(x0 - b, x1 - b, n_knots), potential.scale[k] * head.splines[0])
    energy = potential.reference[k] + (float(U(0.0)) if potential.bias else 0.0)
    if energy:
        raise InputError(
            f"an isolated atom of element {potential.descriptor.species_numbers[k]} has the energy {energy:g} eV and "
            "in meam/spline zero; set potential.reference so that it vanishes, if energies may be shifted"
        )
    return weight[0], U
