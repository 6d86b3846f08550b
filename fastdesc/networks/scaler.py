"""Feature statistics, folded into a network's first layer; reference energies of the elements.

A network is trained on scaled features (q - mean) / scale but runs on q itself, for the scaling is linear:

    W ((q - mean) / scale) + b = W' q + b',    W' = W / scale,    b' = b - W' mean                         (1)

and a gradient with respect to (W', b') is one with respect to (W, b) by

    dW = (dW' - db' mean^T) / scale,    db = db'                                                           (2)

A layer without bias scales but does not shift: zero features then stay zero. Where a network sees a part of the
features only, W' has columns of zeros for the others.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.errors import InputError

CONSTANT = 1e-6
"""A feature that spreads by less than this fraction of its mean is constant: float32 features carry such round-off."""

NEGLIGIBLE = 1e-10
"""So is one that spreads by less than this fraction of the widest: the tail of a function far from every neighbour,
which a scale of its size would blow up at the first structure that is a little different."""

AT_ONCE = 4096
SMALLEST = 1e-10


class FeatureScaler:
    """Mean and scale of every feature, gathered block by block in one pass.

    Welford's sums, merged as by Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983), in float64: no difference of large
    squares, whatever the mean.

    Parameters
    ----------
    mean, scale : (n_features,) array

    Attributes
    ----------
    mean : (n_features,) float64
    scale : (n_features,) float64
        Standard deviation; 1 for a feature that is constant (CONSTANT, NEGLIGIBLE).
    n_seen : int
        Number of atoms seen by partial_fit.

    Raises
    ------
    InputError
        For shapes that differ, a mean that is not finite, or a scale that is not finite and positive.
    """

    def __init__(self, mean, scale):
        self.mean = np.array(mean, np.float64)
        self.scale = np.array(scale, np.float64)
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise InputError(
                f"a scaler's mean and scale came with shapes {self.mean.shape} and {self.scale.shape}; "
                "both must be (n_features,)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise InputError("a scaler's mean must be finite and its scale finite and positive")
        self.n_seen = 0
        self._squares = np.zeros_like(self.mean)

    @classmethod
    def identity(cls, n_features):
        """Make a scaler that changes nothing until partial_fit sees features."""
        return cls(np.zeros(n_features), np.ones(n_features))

    @property
    def n_features(self):
        """Number of features."""
        return len(self.mean)

    def partial_fit(self, q):
        """Add atoms to the statistics; the first call replaces mean and scale given at the start.

        Parameters
        ----------
        q : array (n_features, n_atoms)

        Returns
        -------
        FeatureScaler
            Itself.

        Raises
        ------
        InputError
            For another number of features, or a feature that is not finite; nothing is added then.
        """
        q = np.asarray(to_host(q))
        if q.ndim != 2 or q.shape[0] != self.n_features:
            raise InputError(f"features came with shape {q.shape}; this scaler needs ({self.n_features}, n_atoms)")
        finite = np.isfinite(q)
        if not finite.all():
            feature, atom = np.argwhere(~finite)[0]
            raise InputError(f"feature {feature} of atom {atom} is {q[feature, atom]}; look at that structure")
        for first in range(0, q.shape[1], AT_ONCE):
            self._merge(q[:, first : first + AT_ONCE].astype(np.float64))
        return self

    def _merge(self, q):
        n = q.shape[1]
        mean = q.mean(axis=1)
        q -= mean[:, None]
        squares = np.einsum("fi,fi->f", q, q)
        if self.n_seen == 0:
            self.mean, self._squares = mean, squares
        else:
            total = self.n_seen + n
            step = mean - self.mean
            self.mean = self.mean + step * (n / total)
            self._squares = self._squares + squares + step**2 * (self.n_seen * n / total)
        self.n_seen += n
        spread = np.sqrt(self._squares / self.n_seen)
        least = np.maximum(CONSTANT * abs(self.mean), NEGLIGIBLE * spread.max(initial=0.0))
        self.scale = np.where(spread > least, spread, 1.0)

    def transform(self, q):
        """Return (q - mean) / scale, in q's dtype and on its device; q is (n_features, n_atoms)."""
        xp = namespace(q)
        mean, scale = (xp.asarray(a[:, None]) for a in (self.mean, self.scale))
        return ((q - mean) / scale).astype(q.dtype)

    def __repr__(self):
        return f"FeatureScaler(n_features={self.n_features}, n_seen={self.n_seen})"


def fold(layers, scaler, seen=None):
    """Turn layers for scaled features into layers for the features themselves (1), so that scaling costs nothing.

    Parameters
    ----------
    layers : list of (W (n_out, n_in), b (n_out, 1) or None)
        Float64; cast afterwards.
    scaler : FeatureScaler
    seen : (n_seen,) array of int, optional
        Indices of the features that are inputs of the first layer; all of them by default.

    Returns
    -------
    list of (W, b)
        New arrays for the first layer, the same ones for the others.
    """
    (w, b), *rest = layers
    mean, scale = _like(w, scaler, seen)
    w = w / scale
    return [(scatter_columns(w, seen, scaler.n_features), None if b is None else b - (w @ mean)[:, None]), *rest]


def scatter_columns(w, seen, n_features):
    """Return columns of `w` at the indices `seen` of (len(w), n_features), zeros elsewhere; `w` itself for None."""
    if seen is None:
        return w
    xp = namespace(w)
    wide = xp.zeros((len(w), n_features), w.dtype)
    wide[:, xp.asarray(seen)] = w
    return wide


def unfold_gradients(dlayers, scaler, seen=None):
    """Turn gradients with respect to folded layers into gradients with respect to the layers before (2).

    Parameters
    ----------
    dlayers : list of (dW, db)
    scaler : FeatureScaler
    seen : (n_seen,) array of int, optional
        As in `fold`.

    Returns
    -------
    list of (dW, db)
    """
    (dw, db), *rest = dlayers
    mean, scale = _like(dw, scaler, seen)
    dw = dw if seen is None else dw[:, namespace(dw).asarray(seen)]
    return [((dw if db is None else dw - db * mean) / scale, db), *rest]


def _like(w, scaler, seen):
    xp = namespace(w)
    return (xp.asarray(a if seen is None else a[seen]) for a in (scaler.mean, scaler.scale))


def reference_energies(compositions, energies, weights=None, fixed=None):
    """Energy of each element that describes total energies best, by linear least squares.

    Minimises sum_f w_f^2 (E_f - sum_Z n_fZ E_Z)^2. Where that leaves a choice, the energies are as near to the mean
    energy per atom as can be, and elements that always occur in one proportion (or in one composition alone) get one
    energy. The singular value decomposition works on deviations from that mean, with each column n_Z divided by the
    square root of its norm, so all-electron energies keep their digits.

    Parameters
    ----------
    compositions : (n_frames, n_species) array
        Number of atoms of each element.
    energies : (n_frames,) array, eV
        Frames whose energy is not finite are left out.
    weights : (n_frames,) array, optional
        w_f; by default 1 / number of atoms, so that errors count per atom.
    fixed : (n_species,) array, optional
        E_Z of elements that have one already, eV; NaN where it is to be fitted.

    Returns
    -------
    (n_species,) float64, eV
        `fixed` where that is a number; 0 for another element that occurs in no frame with an energy.

    Raises
    ------
    InputError
        For shapes that do not fit, negative or not finite compositions or weights, or a frame without atoms.
    """
    counts, energies = np.asarray(compositions, np.float64), np.asarray(energies, np.float64)
    if counts.ndim != 2 or energies.shape != counts.shape[:1]:
        raise InputError(
            f"compositions {counts.shape} and energies {energies.shape} do not fit; "
            "they must be (n_frames, n_species) and (n_frames,)"
        )
    if not np.isfinite(counts).all() or (counts < 0).any() or not (counts.sum(axis=1) > 0).all():
        frame = np.argmin(np.isfinite(counts).all(1) & (counts >= 0).all(1) & (counts.sum(axis=1) > 0))
        raise InputError(f"frame {frame} has composition {counts[frame]}; numbers of atoms must be >= 0, some above 0")
    weights = 1 / counts.sum(axis=1) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != energies.shape or not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError(f"weights must be {energies.shape} numbers >= 0; they came with shape {weights.shape}")

    used = np.isfinite(energies) & (weights > 0)
    out = np.zeros(counts.shape[1])
    if fixed is not None:
        known = np.isfinite(fixed)
        out[known] = np.asarray(fixed, np.float64)[known]
        energies, counts = energies - counts @ out, np.where(known, 0.0, counts)
        used &= counts.any(axis=1)
    known = (counts[used] > 0).any(axis=0)
    if not known.any():
        return out
    counts, energies, weights = counts[used][:, known], energies[used], weights[used]
    mean = (weights @ energies) / (weights @ counts.sum(axis=1))
    rest = energies - mean * counts.sum(axis=1)
    counts, which = np.unique(counts, axis=0, return_inverse=True)  # a long trajectory has few compositions
    squared = np.bincount(which.ravel(), weights**2)
    rest = np.bincount(which.ravel(), weights**2 * rest) / np.sqrt(squared)
    a = np.sqrt(squared)[:, None] * counts
    shrink = np.linalg.norm(a, axis=0) ** -0.5
    u, s, vt = np.linalg.svd(a * shrink, full_matrices=False)
    inverse = np.where(s > SMALLEST * s[0], 1 / np.where(s > 0, s, 1), 0.0)
    x = np.zeros(known.sum())
    for _ in range(2):  # the second pass removes most of the first one's round-off
        x += shrink * (vt.T @ (inverse * (u.T @ (rest - a @ x))))
    out[known] = mean + x
    return out


def undetermined(compositions):
    """Tell the elements whose energies no set of total energies of these compositions decides.

    Parameters
    ----------
    compositions : (n_frames, n_species) array

    Returns
    -------
    (n_species,) bool
        False also for an element that does not occur.
    """
    counts = np.unique(np.asarray(compositions, np.float64), axis=0)
    occurs = (counts > 0).any(axis=0)
    length = np.linalg.norm(counts, axis=0)
    _, s, vt = np.linalg.svd(counts / np.where(occurs, length, 1), full_matrices=False)
    rows = vt[s > SMALLEST * s.max(initial=0.0)]
    # The part of each unit vector that lies in the span of the compositions: an energy is known where it is all of it.
    return occurs & ((rows**2).sum(axis=0) < 1 - 1e-8)
