"""Memory of a GPU: how much is free, work cut into pieces that fit, and one sentence where nothing helps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from fastdesc.errors import DeviceError

Result = TypeVar("Result")

UNASKED = 1 << 28
"""Bytes that are taken without a look at what is free."""
SHARE = 0.8
"""Part of what is free that the arrays of a piece may take: what is between them is not in the estimate."""
MULTIPLE, LEAST = 128, 1024
"""Pieces begin at multiples of so many atoms; shorter ones than the second number are not tried."""


def free() -> tuple[int, int]:
    """Bytes of the current GPU that can be had, those that CuPy keeps included, and bytes that it has."""
    import cupy

    left, total = cupy.cuda.runtime.memGetInfo()
    return left + cupy.get_default_memory_pool().free_bytes(), total


def bounds(n_atoms: int, n_pieces: int) -> list[tuple[int, int]]:
    """First and last atom (exclusive) of up to so many pieces of about equal length."""
    length = -(-n_atoms // n_pieces)
    length = -(-length // MULTIPLE) * MULTIPLE
    return [(a, min(a + length, n_atoms)) for a in range(0, n_atoms, length)]


def in_pieces(
    work: Callable[[list[tuple[int, int]]], Result], n_atoms: int, bytes_an_atom: float, cut: bool = True
) -> Result:
    """Call ``work(bounds)`` with pieces of atoms that fit into free memory; with more of them where they do not.

    Parameters
    ----------
    work : callable
        Takes a list of (first, last), in order, that cover all atoms; begins anew when it is called again.
    n_atoms : int
    bytes_an_atom : float
        What the arrays of a piece take.
    cut : bool
        Whether there may be more than one piece.

    Raises
    ------
    DeviceError
        Where memory runs out however short the pieces are.
    """
    needed, n = n_atoms * bytes_an_atom, 1
    if cut and needed > UNASKED:
        n = max(1, min(-int(-needed // (SHARE * max(free()[0], 1))), n_atoms // LEAST))
    while True:
        try:
            return work(bounds(n_atoms, n))
        except MemoryError as error:
            if not cut or n_atoms // (2 * n) < LEAST:
                raise exhausted(n_atoms) from error
        n *= 2
        give_back()


def give_back() -> None:
    """Blocks that CuPy keeps for later go back to the GPU."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()


def exhausted(n_atoms: int) -> DeviceError:
    """The error of work on so many atoms for which the memory does not suffice."""
    left, total = free()
    return DeviceError(
        f"{n_atoms} atoms take more than the GPU's memory, {total / 1e9:.1f} GB of which {left / 1e9:.1f} are free; "
        "use dtype 'float32', fewer atoms at a time, or device 'cpu'"
    )


@contextmanager
def enough_for(n_atoms: int, device: str) -> Iterator[None]:
    """Context in which the end of a GPU's memory is a DeviceError with a remedy; on "cpu" nothing changes."""
    try:
        yield
    except MemoryError as error:
        if device == "cpu":
            raise
        raise exhausted(n_atoms) from error
