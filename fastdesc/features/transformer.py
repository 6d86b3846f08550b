"""A descriptor as a scikit-learn transformer: one row of features for each structure."""

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.stream import compute
from fastdesc.io.frame_batch import FrameBatch
from fastdesc.io.sources import Source, build
from fastdesc.types import Array, Device, DType, Frames, Pool

BATCH_ATOMS = 8192


class StructureFeatures(TransformerMixin, BaseEstimator):
    """Pool the features of a structure's atoms into one row, in a Pipeline or a grid search.

    Nothing is fitted. The arguments of the descriptor can be searched as ``descriptor__cutoff`` and so on; a changed
    argument starts the descriptor's trainable parameters anew.

    Parameters
    ----------
    descriptor : a descriptor, such as GaussianMoments
    pool : {"mean", "sum"}
        "sum" suits extensive targets such as energies, "mean" intensive ones such as energies per atom.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}

    Examples
    --------
    >>> model = make_pipeline(fd.StructureFeatures(d, pool="sum"), StandardScaler(), Ridge())
    >>> model.fit(frames, energies)
    """

    def __init__(
        self, descriptor: Descriptor, pool: Pool = "mean", device: Device = "cpu", dtype: DType = "float64"
    ) -> None:
        self.descriptor = descriptor
        self.pool = pool
        self.device = device
        self.dtype = dtype

    def fit(self, X: Frames, y: Any = None) -> Self:
        """Check the arguments; nothing is learned."""
        self._check()
        return self

    def transform(self, X: Frames) -> Array:
        """Compute one row for each structure.

        Parameters
        ----------
        X : list or object array of ase.Atoms, or a path

        Returns
        -------
        (n_structures, n_features) ndarray

        Raises
        ------
        InputError
            For frames that cannot be used, named by their number.
        """
        device, dtype = self._check()
        source = Source(X)
        rows = []
        for raw in source.raw_batches(BATCH_ATOMS):
            batch: FrameBatch = build(raw, source.files, with_info=False)
            rows.append(compute(batch, self.descriptor, device, dtype, self.pool).features)
        return np.concatenate(rows)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: the pool, and what each feature is."""
        self._check()
        return np.array([f"{self.pool} {name}" for name in self.descriptor.feature_names_out()], object)

    def _check(self):
        """Judge the arguments; return device and dtype."""
        _check_pool(self.pool)
        if not hasattr(self.descriptor, "forward") or isinstance(self.descriptor, type):
            raise InputError(
                f"descriptor came as a {type(self.descriptor).__name__}; give a descriptor such as GaussianMoments(...)"
            )
        return resolve_device(self.device), resolve_dtype(self.dtype)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_clone__(self):
        # A descriptor made anew from its arguments would forget trained parameters.
        return type(self)(copy.deepcopy(self.descriptor), self.pool, self.device, self.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


def _check_pool(pool):
    if not isinstance(pool, str) or pool not in ("mean", "sum"):
        raise InputError(f"pool {pool!r} arrived; it must be 'mean' or 'sum'")


def pooled_features(features: FeaturesFile, pool: Pool = "mean", n: int = 4096) -> Array:
    """Return one row for each structure of a features file.

    Parameters
    ----------
    features : FeaturesFile
    pool : {"mean", "sum"}
        A file whose features were pooled already is handed back as it is.
    n : int
        Structures read at a time.

    Returns
    -------
    (n_structures, n_features) ndarray

    Raises
    ------
    InputError
        For what is no open features file, another pool, or an `n` below one.
    """
    _check_pool(pool)
    if not isinstance(features, FeaturesFile):
        raise InputError(f"features came as a {type(features).__name__}; open the file with open_features")
    if features.pool:
        return features[:]
    rows = np.empty((len(features), features.n_features), features.dtype)
    for part in features.batches(n):
        sums = np.add.reduceat(part.features, part.offsets[:-1], axis=0, dtype=np.float64)
        if pool == "mean":
            sums /= np.diff(part.offsets)[:, None]
        rows[part.first : part.first + len(sums)] = sums
    return rows
