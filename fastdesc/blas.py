"""Which matrix kernels OpenBLAS uses: it knows processors by name, and a name it does not know gets AVX2."""

import os
import sys

_AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}


def prefer_avx512(cpuinfo="/proc/cpuinfo"):
    """Ask OpenBLAS for its AVX-512 kernels where the processor has them; networks then run up to twice as fast.

    Works only before NumPy is loaded, so programs of ours call it first; it leaves a choice that is already made
    (OPENBLAS_CORETYPE) and other processors alone.

    Returns
    -------
    bool
        Whether the choice was made here.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ:
        return False
    try:
        with open(cpuinfo, encoding="ascii", errors="replace") as file:
            flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return False
    if not flags >= _AVX512:
        return False
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return True
