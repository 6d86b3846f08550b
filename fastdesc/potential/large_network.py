"""Energies of many atoms of one network from their Gaussian moments, and the gradient, in one kernel on a device.

    z1 = W1 q(M) + b1,  h1 = f(z1),  z2 = W2 h1 + b2,  h2 = f(z2),  E = scale (w3 · h2 + b3)            (1)
    dM = q'(M)^T W1^T [ f'(z1) W2^T [ f'(z2) scale w3 ] ]                                                (2)

The kernel, kernels/potential/large_network.cu, takes networks of two hidden layers of at most HIDDEN units.
Their weights and the features of TOGETHER atoms must fit the shared memory of a block: with 360 features they take
188 KiB, which an H100 has. Features and their gradient then never reach the memory of the device, and products run on
tensor cores in float32's accuracy. Other networks, and other devices, take fastdesc/potential/evaluation.py.
"""

from typing import Any, NamedTuple

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace, to_host
from fastdesc.networks.heads import FeedForward

FILE = "potential/large_network.cu"
HIDDEN, THREADS, TOGETHER = 64, 512, 32
"""Of the kernel: hidden units, threads of a block, and atoms that it takes at a time."""
ROW, ROW_BACK, ROW_W2 = 36, 40, HIDDEN + 8
"""Lengths of rows in shared memory, as in the kernel."""
PARTS, HIDDEN_TILES = 4, 4


class LargeNetwork(NamedTuple):
    """A network as the kernel takes it.

    Attributes
    ----------
    activation : str
    weights : float32 array
        W1, W2, b1, b2, w3, b3 one after another, rows of the first two as long as the kernel has them; what is not
        there is zero.
    """

    activation: str
    weights: Any


def packed(model):
    """Networks of a model as LargeNetwork, on its device; None where the kernel does not take them."""
    family, heads = model.descriptor, model.networks
    suited = model.direct is None and all(map(_suits, heads))
    if not suited or shared_bytes(family) > cuda.limits().shared_bytes:
        return None
    xp = namespace(model.scale)
    return [LargeNetwork(head.activation, xp.asarray(_weights(head))) for head in heads]


def _suits(head):
    return type(head) is FeedForward and len(head.layers) == 3 and max(len(w) for w, _ in head.layers) <= HIDDEN


def rows_of_features(n_features):
    """Rows of features with zeros up to a multiple of 16, and the length of a row of W1, which keeps banks apart."""
    rows = -(-n_features // 16) * 16
    return rows, rows + 8


def n_weights(n_features):
    """Numbers of a network, zeros included."""
    return HIDDEN * (rows_of_features(n_features)[1] + ROW_W2 + 3) + 4


def shared_bytes(family):
    """Shared memory of a block."""
    rows, _ = rows_of_features(family.n_features)
    of_atoms = HIDDEN * ROW_BACK + HIDDEN_TILES * TOGETHER + family.n_radial * family.n_moments * TOGETHER
    return 4 * (n_weights(family.n_features) + of_atoms + max(rows, PARTS * HIDDEN) * ROW)


def _weights(head):
    """The numbers of a network in one row, in the kernel's order."""
    (w1, b1), (w2, b2), (w3, b3) = head.layers
    parts = (
        (w1, (HIDDEN, rows_of_features(w1.shape[1])[1])), (w2, (HIDDEN, ROW_W2)), (b1, (HIDDEN, 1)), (b2, (HIDDEN, 1)),
        (w3, (1, HIDDEN)), (b3, (1, 4)),
    )  # fmt: skip
    return np.concatenate([_filled(array, shape).ravel() for array, shape in parts])


def _filled(array, shape):
    """Zeros with an array, or nothing, in their first corner."""
    out = np.zeros(shape, np.float32)
    if array is not None:
        out[: array.shape[0], : array.shape[1]] = to_host(array)
    return out


def gm_large_network(family, activation, weights, moments, owner, species, scale, energies, dmoments=None):
    """Formulas (1) and (2).

    Parameters
    ----------
    family : GaussianMoments
    activation, weights
        Of a LargeNetwork.
    moments : float32 (n_radial, n_moments, n)
        Rows may have gaps.
    owner : int32 (n,)
        Which of all atoms a column is.
    species : int32 (n_all,)
    scale : float32 (n_species,), eV
    energies : float64 (n_all,), eV
        Written for these atoms.
    dmoments : float32 (n_radial, n_moments, n), optional
        Written; without it (2) is left out.
    """
    n, derivatives = moments.shape[-1], dmoments is not None
    gradient = dmoments if derivatives else moments
    rows, row_w1 = rows_of_features(family.n_features)
    arrays = weights, moments, owner, species, scale, energies, gradient
    scalars = {"n_atoms": n, "moments_stride": cuda.row_stride(moments), "dmoments_stride": cuda.row_stride(gradient)}
    scalars |= {"n_radial": family.n_radial, "n_moments": family.n_moments, "n_features": family.n_features}
    scalars |= {"rows": rows, "row_w1": row_w1, "derivatives": derivatives}
    scalars |= {f"o{k}": offset for k, offset in enumerate(family.offsets.tolist(), 1)}
    blocks = min(-(-n // TOGETHER), cuda.limits().multiprocessors)
    kernel = f"gm_large_network<{activation.title()}>"
    cuda.launch(FILE, kernel, blocks, 1, THREADS, arrays, shared_mem=shared_bytes(family), **scalars)
