"""The types that public signatures share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""NumPy's, or on a GPU CuPy's, which has the same methods."""
Float64: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = dict[str, Array]
"""Parameters by name."""

FilePath: TypeAlias = str | Path
Frames: TypeAlias = Atoms | Sequence[Atoms] | FilePath | Sequence[FilePath]
"""Frames, or files that ASE can read."""
Species: TypeAlias = Sequence[str | int]
"""Chemical symbols or atomic numbers."""

Device: TypeAlias = Literal["cpu", "cuda", "auto"]
DType: TypeAlias = Literal["float32", "float64"] | np.dtype[Any] | type[np.float32] | type[np.float64]
Activation: TypeAlias = Literal["silu", "tanh", "celu", "softplus", "trained_silu", "trained_isru"]
Pool: TypeAlias = Literal["mean", "sum"]
Compression: TypeAlias = Literal["none", "lzf", "gzip", "zstd", "blosc2"]
OnError: TypeAlias = Literal["raise", "skip"]
