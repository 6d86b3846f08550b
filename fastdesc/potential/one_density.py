"""Energies and their gradient in one pass, on the host, for spline filters that enter through one density.

Potentials of the form (1) of fastdesc/descriptors/spline_filters/one_density.py: a direct term, and one embedding
spline for each element, over pair filters and at most one triplet filter. Published s-MEAM potentials are of that form,
and EAM. Pair filters that are summed must have the same knots: those of a file are one function each.
"""

from typing import Any, NamedTuple

import numpy as np

from fastdesc.backend.arrays import empty, padded
from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.spline_filters import KNOTS, PIECES, SplineFilters
from fastdesc.descriptors.spline_filters.neighbours import Grids
from fastdesc.descriptors.spline_filters.one_density import sf_one_density
from fastdesc.networks.spline import Embeddings
from fastdesc.simd import kind_of, rows_of

CHUNK = 128


class Packed(NamedTuple):
    """What the kernel needs of a model, made once; arrays None where the model is not of the form."""

    knots: Any = None
    tables: tuple = ()
    u: Any = None
    numbers: Any = None
    sizes: tuple = ()


def suits(model):
    """Whether `one_density` can evaluate a model; packs its parameters."""
    if model.packed is None and type(model.descriptor) is SplineFilters and isinstance(model.scale, np.ndarray):
        model.packed = _packed(model)
    return type(model.packed) is Packed and model.packed.u is not None


def one_density(model, rij, pairs, species):
    """Atomic energies without E0 and the gradient of their sum with respect to the pair vectors.

    Parameters
    ----------
    model : Model
        One that `suits`.
    rij : (3, n_pairs) array, Å
        Of the model's dtype.
    pairs : Pairs
        Or the `centres` of a list with ghosts.
    species : int32 array

    Returns
    -------
    out : (n_atoms,) float64 array, eV
    drij : (3, n_pairs) array, eV/Å
    """
    dtype, packed = model.scale.dtype, model.packed
    out, drij = empty((pairs.n_atoms,), np.float64), padded(rij.shape, dtype)
    tables = [_plain(table) for table in packed.tables]
    after = (
        pairs.row, pairs.j, species, rows_of(rij, False), packed.knots, *tables, packed.u, packed.numbers, out,
        rows_of(drij, False), *packed.sizes,
    )    # fmt: skip
    for_chunks(sf_one_density, pairs.n_atoms, CHUNK, (kind_of(dtype, False), kind_of(dtype, False, 1)), after)
    return out, drij


def _plain(table):
    """Plain Rows of one number each."""
    return table.ctypes.data, table.itemsize


def _packed(model):
    """The parameters of a model as the kernel wants them."""
    family, theta, dtype = model.descriptor, model.theta, model.scale.dtype
    heads, n_species, n_pair = model.networks, len(model.scale), family.n_pair
    if family.n_triplet > 1 or any(type(head) is not Embeddings or len(head.weight) != 1 for head in heads):
        return Packed()
    heads = [heads[z if len(heads) > 1 else 0] for z in range(n_species)]
    into = np.array([head.weight[0] for head in heads])
    direct = np.zeros_like(into) if model.direct is None else model.direct
    pair = theta[PIECES.format("pair")][0]    # (groups, n_elements, filters, pieces, 4)
    filters = np.moveaxis(pair, 2, 1).reshape(n_pair, family.n_elements, *pair.shape[3:])
    knots = family.filters["pair"].knots
    summed, own_knots = [], []
    for z in range(n_species):
        for weights in (direct[z, :n_pair], into[z, :n_pair]):
            groups = np.unique(np.flatnonzero(weights) // max(1, family.filters["pair"].group))
            if len(groups) > 1 and (knots[groups] != knots[groups[0]]).any():
                return Packed()
            summed.append(np.tensordot(weights, filters, 1))
            own_knots.append(knots[groups[0] if len(groups) else 0])
    others = theta[KNOTS][pair.shape[0] * family.n_elements :]
    triplet = into[:, n_pair:].sum(axis=1), direct[:, n_pair:].sum(axis=1)
    last = [head.c.shape[2] - 1 for head in heads]
    numbers = [[h.shift[0, 0] for h in heads], [h.at_zero[0, 0] for h in heads], model.scale, *triplet, last]
    u = np.zeros((n_species, max(last) + 1, 4), dtype)
    for z, head in enumerate(heads):
        u[z, : last[z] + 1] = head.c[:, 0].T
    angular = family.filters["triplet_angular"]
    grids = Grids(
        *family.cutoffs(dtype), 1, 2 * n_species, family.filters["pair"].alike, angular.alike, pair.shape[3],
        family.filters["triplet_radial"].n_pieces, angular.n_pieces,
    )    # fmt: skip
    tables = (np.array(summed), theta[PIECES.format("triplet_radial")], theta[PIECES.format("triplet_angular")])
    return Packed(
        np.ascontiguousarray(np.concatenate([np.concatenate(own_knots), others]).astype(dtype)),
        tuple(np.ascontiguousarray(table.astype(dtype)) for table in tables),
        u,
        np.ascontiguousarray(np.array(numbers).T.astype(dtype)),
        (family.n_triplet, family.n_elements, grids),
    )
