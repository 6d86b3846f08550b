"""How alike structures are, by how alike their atoms are: kernels for scikit-learn."""

import copy
from itertools import pairwise
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.checks import brief, flag, positive, word
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.errors import FastdescError, InputError
from fastdesc.features.stream import compute
from fastdesc.features.transformer import BATCH_ATOMS
from fastdesc.io.sources import Source, build
from fastdesc.types import Device, DType, Float64, Frames

LEAST_ENTROPY = 0.01
MOST_ROUNDS, HALVINGS, LONGEST_STEP = 200, 40, 50.0
"""Of Newton's method; the last in units of the entropy."""
CLOSE = 1e-9
"""Largest error of the shares of atoms, relative, with which the match is taken as found."""
NEVER = -1e30
"""The logarithm of nothing."""
AT_ONCE = 2**21
"""Pairs of atoms that are looked at together."""


class SimilarityKernel(TransformerMixin, BaseEstimator):
    """Turn structures into rows of similarities with the structures it was fitted to.

    Atoms i of one structure and j of another are as alike as

        k_ij = (x_i · x_j / |x_i| |x_j|)^power    or    exp(-|x_i - x_j|² / 2 width² n_features),

    and zero where their elements differ. Structures are as alike as the mean of k ("average"), or as its mean over
    the best match ("rematch"): shares P_ij of all atoms of both with the largest sum_ij P_ij (k_ij - entropy ln P_ij)
    (De, Bartók, Csányi, Ceriotti, Phys. Chem. Chem. Phys. 18, 13754 (2016)). In the end
    K_ab / sqrt(K_aa K_bb) is returned. For models with ``kernel="precomputed"``.

    Parameters
    ----------
    descriptor : a descriptor, such as GaussianMoments
    kernel : {"average", "rematch"}
    similarity : {"cosine", "gaussian"}
        Of atoms.
    power : int or float
        Of the cosine, at least 1; a whole number where cosines can be negative.
    width : float
        Of the Gaussian, where features have the mean square 1.
    entropy : float
        Of the match: small finds the best one, large the average. At least 0.01.
    scale : bool
        Divide every feature by its root mean square over the atoms of the fit.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
        Of the features; kernels are float64.

    Attributes
    ----------
    n_structures_ : int
        Of the fit: the length of a row.

    Examples
    --------
    >>> model = make_pipeline(fd.SimilarityKernel(d), KernelRidge(1e-6, kernel="precomputed"))
    >>> model.fit(frames, energies_per_atom)
    """

    def __init__(
        self,
        descriptor: Descriptor,
        kernel: str = "average",
        similarity: str = "cosine",
        power: float = 2,
        width: float = 1.0,
        entropy: float = 0.1,
        scale: bool = True,
        device: Device = "cpu",
        dtype: DType = "float64",
    ) -> None:
        self.descriptor = descriptor
        self.kernel = kernel
        self.similarity = similarity
        self.power = power
        self.width = width
        self.entropy = entropy
        self.scale = scale
        self.device = device
        self.dtype = dtype

    def fit(self, X: Frames, y: Any = None) -> Self:
        """Take the structures to compare with.

        Parameters
        ----------
        X : list or object array of ase.Atoms, or a path

        Raises
        ------
        InputError
            For frames that cannot be used, and arguments that are not allowed.
        """
        self._check()
        features, elements, sizes = self._features(X)
        self.scale_ = np.ones(features.shape[1])
        if self.scale:
            size = np.sqrt((features**2).mean(0))
            self.scale_ = np.where(size > 0, 1 / np.where(size > 0, size, 1), 0.0)
        self._known = self._prepared(features), elements, sizes
        self._own = _own(*self._known, self)
        self.n_structures_ = len(sizes)
        return self

    def transform(self, X: Frames) -> Float64:
        """Similarities of structures with those of the fit.

        Parameters
        ----------
        X : list or object array of ase.Atoms, or a path

        Returns
        -------
        (n_structures, n_structures_) float64

        Raises
        ------
        InputError
            For frames that cannot be used, and before `fit`.
        """
        if not hasattr(self, "_known"):
            raise InputError("the kernel has no structures to compare with; call fit first")
        features, elements, sizes = self._features(X)
        given = self._prepared(features), elements, sizes
        out = np.empty((len(sizes), self.n_structures_))
        ends = np.cumsum([0, *sizes])
        for k in range(len(sizes)):
            own = slice(ends[k], ends[k + 1])
            out[k] = _compared(given[0][own], elements[own], *self._known, self)
        return out / np.sqrt(np.outer(_own(*given, self), self._own))

    def _features(self, frames):
        """Features (n_atoms, n_features), elements (n_atoms,) and sizes of structures."""
        source, rows, elements, sizes = Source(frames), [], [], []
        for raw in source.raw_batches(BATCH_ATOMS):
            batch = build(raw, source.files, with_info=False)
            found = compute(batch, self.descriptor, resolve_device(self.device), resolve_dtype(self.dtype))
            rows.append(np.asarray(found.features, np.float64))
            elements.append(batch.structures.numbers)
            sizes.extend(np.diff(batch.structures.first).tolist())
        if not sizes:
            raise InputError("no structures came; give at least one")
        return np.concatenate(rows), np.concatenate(elements), sizes

    def _prepared(self, features):
        x = features * self.scale_
        if self.similarity == "cosine":
            size = np.linalg.norm(x, axis=1)
            if not (size > 0).all():
                where = int(np.argmin(size))
                raise InputError(
                    f"all features of atom {where} (counted through all structures) are zero, and a cosine needs some; "
                    "take similarity='gaussian', or leave out structures without neighbours"
                )
            x = x / size[:, None]
        else:
            x = x / (np.sqrt(2 * x.shape[1]) * self.width)
        return x

    def _check(self):
        if not hasattr(self.descriptor, "forward") or isinstance(self.descriptor, type):
            raise InputError(
                f"descriptor came as a {type(self.descriptor).__name__}; give a descriptor such as GaussianMoments(...)"
            )
        word("kernel", self.kernel, ("average", "rematch"))
        word("similarity", self.similarity, ("cosine", "gaussian"))
        if isinstance(self.power, bool) or not isinstance(self.power, Real) or not 1 <= self.power <= 100:
            raise InputError(f"power came as {brief(self.power)}; it must be a number from 1 to 100")
        positive("width", self.width, "features have the mean square 1")
        positive("entropy", self.entropy, "of similarities")
        if self.entropy < LEAST_ENTROPY:
            raise InputError(f"entropy came as {self.entropy!r}; give at least {LEAST_ENTROPY}")
        flag("scale", self.scale)
        resolve_device(self.device)
        resolve_dtype(self.dtype)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_known")

    def __sklearn_clone__(self):
        # A descriptor made anew from its arguments would forget trained parameters.
        given = self.get_params(deep=False)
        return type(self)(**{**given, "descriptor": copy.deepcopy(self.descriptor)})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


def _compared(x, elements, known, known_elements, sizes, settings):
    """Similarities of one structure with several, (n,), not normalised."""
    out, ends = np.empty(len(sizes)), np.cumsum([0, *sizes])
    a = 0
    while a < len(sizes):
        b = max(a + 1, int(np.searchsorted(ends, ends[a] + max(1, AT_ONCE // len(x)), "right")) - 1)
        part = slice(ends[a], ends[b])
        k = _of_atoms(x, elements, known[part], known_elements[part], settings)
        if settings.kernel == "average":
            out[a:b] = np.add.reduceat(k.sum(axis=0), ends[a:b] - ends[a]) / (len(x) * np.array(sizes[a:b]))
        else:
            out[a:b] = _matched(k, np.array(sizes[a:b]), settings.entropy)
        a = b
    return out


def _own(x, elements, sizes, settings):
    """Similarities of structures with themselves, (n,)."""
    ends = np.cumsum([0, *sizes])
    parts = [slice(a, b) for a, b in pairwise(ends)]
    found = [_compared(x[p], elements[p], x[p], elements[p], [p.stop - p.start], settings)[0] for p in parts]
    return np.array(found)


def _of_atoms(x, x_elements, y, y_elements, settings):
    """k_ij, (len(x), len(y))."""
    k = x @ y.T
    if settings.similarity == "cosine":
        with np.errstate(invalid="ignore"):
            k = np.clip(k, -1.0, 1.0) ** settings.power
        if np.isnan(k).any():
            raise InputError(
                f"power={settings.power!r} of a negative cosine; take a whole number, or similarity='gaussian'"
            )
    else:
        lengths = (x**2).sum(1)[:, None] + (y**2).sum(1)
        k = np.exp(np.minimum(2 * k - lengths, 0.0))
    k[x_elements[:, None] != y_elements] = 0.0
    return k


def _matched(k, sizes, entropy):
    """Means of k over the best match, of its rows with each group of columns, (n_groups,).

    The match is P_ij = exp(u_i + k_ij / entropy + v_j) with the sums 1/n over j, which give u, and 1/m over i. The
    latter are the gradient of a concave function,

        F(v) = sum_j v_j / m - sum_i log(sum_j exp(k_ij / entropy + v_j)) / n,

    which Newton's method makes largest, for all groups together; columns that are not there are at minus infinity.
    """
    n, most = len(k), int(sizes.max())
    there = np.arange(most) < sizes[:, None]
    columns = (np.cumsum([0, *sizes[:-1]])[:, None] + np.arange(most)) * there
    own = k[:, columns].transpose(1, 0, 2)    # (n_groups, n, most)
    logs, share = np.where(there[:, None], own / entropy, NEVER), there / sizes[:, None]
    v, out, left = np.zeros(there.shape), np.empty(len(sizes)), np.arange(len(sizes))
    for _ in range(MOST_ROUNDS):
        f, p = _value_and_match(logs, v, share, n)
        missing = share - p.sum(axis=1)
        done = np.abs(missing).max(axis=1) < CLOSE * share.max(axis=1)
        if done.any():
            out[left[done]] = (p[done] * own[done]).sum(axis=(1, 2))
            on = ~done
            if not on.any():
                return out
            left, own, logs, share, there = left[on], own[on], logs[on], share[on], there[on]
            v, f, p, missing = v[on], f[on], p[on], missing[on]
        v = _stepped(logs, v, share, n, f, _newton(p, missing, there, n))
    raise FastdescError(
        f"the match of {len(left)} pairs of structures was not found; take a larger entropy than {entropy:g}"
    )


def _newton(p, missing, there, n):
    """Newton's step of v, (n_groups, most)."""
    most = there.shape[1]
    h = -n * np.swapaxes(p, 1, 2) @ p + _even(there)    # what shifts all of v alike does not change F
    h[:, np.arange(most), np.arange(most)] += np.where(there, p.sum(axis=1) * (1 + 1e-12), 1.0)
    return np.linalg.solve(h, missing[..., None])[..., 0]


def _even(there):
    """Matrices of equal numbers, of the sum one, where both columns are there."""
    sizes = there.sum(axis=1)
    return (there[:, :, None] & there[:, None, :]) / (sizes[:, None, None] ** 2.0)


def _stepped(logs, v, share, n, f, step):
    """v after steps that are halved until F grows."""
    length = np.minimum(1.0, LONGEST_STEP / np.maximum(np.abs(step).max(axis=1), 1e-300))
    slope = np.abs(f) * 1e-15
    for _ in range(HALVINGS):
        new = v + length[:, None] * step
        grown = _value_and_match(logs, new, share, n)[0] >= f - slope
        if grown.all():
            break
        length = np.where(grown, length, length / 2)
    return new


def _value_and_match(logs, v, share, n):
    """F (n_groups,) and P (n_groups, n, most)."""
    x = logs + v[:, None, :]
    top = x.max(axis=2, keepdims=True)
    p = np.exp(x - top)
    total = p.sum(axis=2, keepdims=True)
    f = (share * v).sum(axis=1) - (np.log(total) + top).sum(axis=(1, 2)) / n
    p /= n * total
    return f, p
