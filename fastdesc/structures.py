"""Many structures concatenated into flat arrays, checked once."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.backend.jit import kernel
from fastdesc.errors import InputError
from fastdesc.types import Array, Device, Float64

SMALLEST_SINE = 1e-8
"""Periodic cell vectors whose box fills less than this part of a brick of the same edges are called dependent."""


class Structures:
    """Frames concatenated; kernels see atoms, never frames.

    The constructor takes its arrays as they are; `from_ase` checks them.

    Attributes
    ----------
    numbers : int32 (n_atoms,)
        Atomic numbers.
    positions : float64 (n_atoms, 3)
        In Å, as given: never wrapped into the cell.
    cells : float64 (n_frames, 3, 3)
        Cell vectors in rows, in Å; zeros where there is no cell.
    pbc : bool (n_frames, 3)
        Periodic directions.
    first : int64 (n_frames + 1,)
        Frame f owns the atoms first[f] .. first[f + 1].
    frames_before : int
        Added to the numbers of frames in messages, where these are some of many.
    """

    frames_before = 0

    def __init__(self, numbers: Array, positions: Array, cells: Array, pbc: Array, first: Array) -> None:
        self.numbers = numbers
        self.positions = positions
        self.cells = cells
        self.pbc = pbc
        self.first = first

    @classmethod
    def from_ase(cls, frames: Atoms | Iterable[Atoms]) -> Self:
        """Concatenate an `ase.Atoms` or a list of them.

        Raises
        ------
        InputError
            For an empty list, something that is not an Atoms, a frame without atoms, a position or cell that is
            not finite, and periodic directions whose cell vectors are zero or dependent; names frame and atom.
        """
        several = hasattr(frames, "__iter__") and not hasattr(frames, "get_positions")
        several = several and getattr(frames, "shape", None) != ()    # an array without axes is no list
        given: list[Any] = list(frames) if several else [frames]
        if not given:
            raise InputError("an empty list of frames arrived; give at least one ase.Atoms")
        for f, atoms in enumerate(given):
            if not hasattr(atoms, "get_positions"):
                raise InputError(f"frame {f} is a {type(atoms).__name__}; give an ase.Atoms or a list of them")
            if len(atoms) == 0:
                raise InputError(f"frame {f} has no atoms; remove it from the list")
            for name in ("numbers", "positions"):
                kind = atoms.arrays[name].dtype
                if kind.kind not in "iuf":
                    raise InputError(f"the {name} of frame {f} are of the type {kind}; give real numbers")
        structures = cls(
            _joined([a.arrays["numbers"] for a in given], np.int32),
            _joined([a.arrays["positions"] for a in given], np.float64),
            np.array([a.cell.array for a in given], np.float64),
            np.array([a.pbc for a in given], bool),
            np.cumsum([0, *map(len, given)], dtype=np.int64),
        )
        structures.check()
        return structures

    def check(self) -> None:
        """Raise InputError for numbers no kernel can use; see `from_ase`."""
        self._check_positions()
        f = unusable_cell(self.cells, self.pbc)
        if f < 0:
            return
        k, cell = self.frames_before + f, self.cells[f].tolist()
        if not np.isfinite(self.cells[f]).all():
            raise InputError(f"the cell of frame {k} is {cell}; cell vectors must be finite")
        raise InputError(
            f"frame {k} is periodic in {self.pbc[f].tolist()} but its cell {cell} has zero or dependent vectors there; "
            "set the cell or switch these directions off with atoms.pbc"
        )

    def _check_positions(self):
        if not finite(self.positions):
            atom = int(np.flatnonzero(~np.isfinite(self.positions).all(1))[0])
            raise InputError(f"{self.name_atom(atom)} is at {self.positions[atom]}; positions must be finite")

    def moved(self, positions: ArrayLike) -> "Structures":
        """The same frames with their atoms elsewhere; all else was judged before.

        Parameters
        ----------
        positions : (n_atoms, 3), Å

        Raises
        ------
        InputError
            For a position that is not finite.
        """
        moved = Structures(self.numbers, np.array(positions, np.float64), self.cells, self.pbc, self.first)
        moved._check_positions()
        moved.host_cells, moved.volumes = self.host_cells, self.volumes
        return moved

    def __repr__(self) -> str:
        return f"<Structures: {self.n_frames} frames, {self.n_atoms} atoms>"

    @property
    def n_frames(self) -> int:
        return len(self.first) - 1

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @cached_property
    def frame_of_atom(self) -> NDArray[np.int32]:
        """int32 (n_atoms,)"""
        counts = np.diff(self.first)
        return np.repeat(np.arange(self.n_frames, dtype=np.int32), counts)

    @cached_property
    def host_cells(self) -> Float64:
        """float64 (n_frames, 3, 3): `cells` on the host, also where positions and cells are on a device."""
        return to_host(self.cells)

    @cached_property
    def volumes(self) -> Float64:
        """float64 (n_frames,) in Å^3, always positive; zero where a cell vector is missing."""
        volumes = np.empty(self.n_frames)
        find_volumes(self.host_cells, volumes)
        return volumes

    def name_atom(self, atom: int) -> str:
        """'frame f, atom a' of an index into all atoms, for messages."""
        f = int(np.searchsorted(self.first, atom, side="right")) - 1
        return f"frame {self.frames_before + f}, atom {atom - int(self.first[f])}"

    def species(self, model_species_numbers: Sequence[int]) -> NDArray[np.int32]:
        """Index of every atom's element in the model's list.

        Parameters
        ----------
        model_species_numbers : sequence of int
            Atomic numbers the model knows, in its order.

        Returns
        -------
        int32 (n_atoms,)

        Raises
        ------
        InputError
            For an element the model does not know; names element, frame and what the model knows.
        """
        known, table = _index_of_number(tuple(model_species_numbers))
        species = np.empty(len(self.numbers), np.int32)
        atom = index_elements(self.numbers, table, species)
        if atom >= 0:
            from ase.data import chemical_symbols

            number = int(self.numbers[atom])
            name = chemical_symbols[number] if 0 < number < len(chemical_symbols) else f"of atomic number {number}"
            raise InputError(
                f"{self.name_atom(atom)} is {name}, which the model does not know; it "
                f"knows {', '.join(chemical_symbols[z] for z in known)}: leave the frame out or train with it"
            )
        return species

    def blocks(self, n_atoms: int) -> "Iterator[Structures]":
        """Yield all frames, in order, as Structures that begin within `n_atoms` atoms of each other."""
        block = self.first[:-1] // n_atoms
        if block[-1] == 0:
            yield self
            return
        for one in np.unique(block):
            frames = np.flatnonzero(block == one)
            some = self.take(frames)
            some.frames_before = self.frames_before + int(frames[0])
            yield some

    def take(self, frame_indices: ArrayLike) -> "Structures":
        """The Structures of some frames, in the order asked for."""
        frame_indices = np.atleast_1d(np.asarray(frame_indices, np.int64))
        counts = np.diff(self.first)[frame_indices]
        atoms = ranges(self.first[frame_indices], counts)
        first = np.concatenate([[0], np.cumsum(counts)])
        return Structures(
            self.numbers[atoms], self.positions[atoms], self.cells[frame_indices], self.pbc[frame_indices], first
        )

    @classmethod
    def concatenate(cls, structures: "Sequence[Structures]") -> Self:
        """One Structures out of a list of them, frames in order."""
        xp = namespace(structures[0].positions)
        offsets = np.cumsum([0, *(s.n_atoms for s in structures)])
        first = [s.first[:-1] + o for s, o in zip(structures, offsets, strict=False)]
        return cls(
            np.concatenate([s.numbers for s in structures]),
            xp.concatenate([s.positions for s in structures]),
            xp.concatenate([s.cells for s in structures]),
            np.concatenate([s.pbc for s in structures]),
            np.concatenate([*first, offsets[-1:]]).astype(np.int64),
        )

    def to_device(self, device: Device) -> "Structures":
        """The same frames with positions and cells on "cpu" or "cuda"; the integers stay on the host."""
        positions, cells = to_device(self.positions, device), to_device(self.cells, device)
        if positions is self.positions:
            return self
        moved = Structures(self.numbers, positions, cells, self.pbc, self.first)
        moved.host_cells = self.host_cells
        return moved


def _joined(arrays, dtype):
    """A new array of arrays one after the other."""
    return np.array(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), dtype, order="C")


@cache
def _index_of_number(known):
    """The atomic numbers of a model, and its index of every atomic number, -1 for those that it does not know."""
    from ase.data import chemical_symbols

    table = np.full(len(chemical_symbols), -1, np.int32)
    table[list(known)] = np.arange(len(known), dtype=np.int32)
    table.flags.writeable = False
    return known, table


@kernel
def index_elements(numbers, table, species):
    """species[a] = table[numbers[a]]; return the first atom for which that is negative, or not there, else -1."""
    unknown = -1
    for a in range(len(numbers)):
        z = numbers[a]
        species[a] = table[z] if 0 <= z < len(table) else -1
        if species[a] < 0 and unknown < 0:
            unknown = a
    return unknown


@kernel
def find_volumes(cells, out):
    """|a·(b x c)| of every cell (n_frames, 3, 3)."""
    for f in range(len(cells)):
        a, b, c = cells[f, 0], cells[f, 1], cells[f, 2]
        x, y, z = b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]
        out[f] = abs(a[0] * x + a[1] * y + a[2] * z)


@kernel
def finite(positions):
    """Whether all numbers of a (n, 3) array are finite."""
    for i in range(len(positions)):
        if not (np.isfinite(positions[i, 0]) and np.isfinite(positions[i, 1]) and np.isfinite(positions[i, 2])):
            return False
    return True


def ranges(starts, counts):
    """Concatenated index ranges starts[k] .. starts[k] + counts[k]; int64 (sum of counts,)."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def owners(bounds, n):
    """Index k of the range bounds[k] .. bounds[k + 1] of each of n items; on the device of the bounds, without a wait.

    Parameters
    ----------
    bounds : int array (n_ranges + 1,), ascending from 0 to n
    """
    xp = namespace(bounds)
    if xp is np:
        return np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return xp.searchsorted(bounds[1:], xp.arange(n), side="right")


def complete_cells(cells, pbc):
    """Replace the vectors of non-periodic directions by unit normals, so that every cell can be inverted.

    Parameters
    ----------
    cells : (n_frames, 3, 3)
    pbc : (n_frames, 3)

    Returns
    -------
    (n_frames, 3, 3)
        Lists of neighbours do not change: no pair is ever shifted along the vectors replaced.
    """
    full = cells.copy()
    full[~pbc.any(1)] = np.eye(3)
    for f in np.flatnonzero(pbc.any(1) & ~pbc.all(1)):
        loose = np.flatnonzero(~pbc[f])
        # The last right singular vectors span what the periodic vectors leave free.
        full[f, loose] = np.linalg.svd(cells[f, pbc[f]])[2][3 - len(loose) :]
    return full


@kernel
def unusable_cell(cells, pbc):
    """The first frame with a cell that is not finite, or with zero or dependent vectors in periodic directions; or -1.

    Vectors are dependent where their box fills less than SMALLEST_SINE of a brick of the same edges; two of them, their
    parallelogram of a rectangle. Other directions do not count: a slab may come without its third vector.
    """
    unit = np.empty((3, 3))
    for f in range(len(cells)):
        n = 0
        for a in range(3):
            x, y, z = cells[f, a, 0], cells[f, a, 1], cells[f, a, 2]
            if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
                return f
            if pbc[f, a]:
                d = np.sqrt(x * x + y * y + z * z)
                if not 0 < d < np.inf:
                    return f
                unit[n, 0], unit[n, 1], unit[n, 2] = x / d, y / d, z / d
                n += 1
        if n > 1:
            a, b = unit[0], unit[1]
            u, v, w = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
            filled = np.sqrt(u * u + v * v + w * w)
            if n == 3:
                filled = abs(u * unit[2, 0] + v * unit[2, 1] + w * unit[2, 2])
            if filled < SMALLEST_SINE:
                return f
    return -1
