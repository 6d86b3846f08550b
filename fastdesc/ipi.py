"""A client of i-PI: path integrals, replicas and all else that i-PI does, with a potential of fastdesc.

i-PI opens a socket and sends structures in atomic units; the client answers with energy, forces and virial. Where its
input says `<batch_size>` in `<ffsocket>`, so many beads come together and are evaluated in one batch.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.calculator import load_potential
from fastdesc.checks import brief, count
from fastdesc.errors import FastdescError, InputError
from fastdesc.potential import Potential
from fastdesc.structures import Structures
from fastdesc.types import Device, DType, FilePath

PREFIX = "/tmp/ipi_"
"""Of i-PI's sockets in the file system."""
RETRY = 0.1
"""Seconds between attempts to reach a server."""
HEADER = 12
"""Bytes."""
MOST_IN_BATCH, LONGEST_TEXT = 100_000, 1_000_000


def run_client(
    potential: Potential | FilePath,
    atoms: Atoms,
    *,
    host: str = "localhost",
    port: int = 31415,
    unix: FilePath | None = None,
    wait: float = 30.0,
    device: Device = "cpu",
    dtype: DType = "float64",
    say: Callable[[str], Any] | None = None,
) -> int:
    """Evaluate structures for i-PI until it ends.

    Parameters
    ----------
    potential : Potential, str or Path
        A potential, or a model file.
    atoms : ase.Atoms
        Elements in i-PI's order, and periodic directions; positions and cell come from i-PI.
    host, port : str, int
        Of i-PI's `<address>` and `<port>`.
    unix : str or Path, optional
        Instead of both: `<address>` of an `<ffsocket mode="unix">`, or the path of its socket.
    wait : float
        Seconds that i-PI may take to open its socket.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
    say : callable, optional
        Takes a line once i-PI answers.

    Returns
    -------
    int
        Structures that were evaluated.

    Raises
    ------
    InputError
        Where no server answers, or one that is no i-PI; for other numbers of atoms than those of `atoms`, and
        structures that cannot be evaluated.
    """
    potential = load_potential(potential)
    template = Structures.from_ase(atoms)
    if template.n_frames != 1:
        raise InputError(f"{template.n_frames} frames came; give one ase.Atoms with the elements of i-PI's")
    template.species(potential.descriptor.species_numbers)
    evaluate = _Evaluation(potential, template, resolve_dtype(dtype), resolve_device(device))
    address = _address(host, port, unix)
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < 1e9:
        raise InputError(f"wait came as {brief(wait)}; it must be a number of seconds of at least 0")
    if say is not None and not callable(say):
        raise InputError(f"say came as {brief(say)}; give something that takes a line, such as print")
    with _connected(address, wait) as connection:
        if say is not None:
            say(f"i-PI answers at {_name(address)}")
        return _Client(connection, evaluate, _name(address)).serve()


class _Evaluation:
    """Energies, forces and virials of structures of the same elements, in eV and Å."""

    def __init__(self, potential, template, dtype, device):
        self.potential, self.template, self.model = potential, template, potential.model(dtype, device)

    def __call__(self, positions, cells):
        one, n = self.template, len(positions)
        cells = cells * one.pbc.any()    # of what is not periodic i-PI sends a large box
        first = np.arange(n + 1) * one.n_atoms
        together = Structures(
            np.tile(one.numbers, n), positions.reshape(-1, 3), cells, np.repeat(one.pbc, n, axis=0), first
        )
        together.check()
        with np.errstate(over="ignore", invalid="ignore"):    # told below, in one sentence
            energy, forces, virials, _ = self.potential.evaluate(together, None, self.model)
        if not (np.isfinite(energy).all() and np.isfinite(forces).all()):
            k = int(np.argmax(~np.isfinite(energy)))
            raise InputError(f"energies or forces are not finite (energy {energy[k]:g} eV); take a shorter time step")
        return energy, forces.reshape(n, -1, 3), virials


class _Client:
    """The conversation."""

    def __init__(self, connection, evaluate, name):
        self.connection, self.evaluate, self.name = connection, evaluate, name
        self.n_atoms, self.batch, self.found, self.evaluated = evaluate.template.n_atoms, None, None, 0

    def serve(self):
        """Answer until the server ends; return how many structures were evaluated."""
        answers = {
            b"STATUS": self._status, b"INIT": self._begin, b"POSDATA": self._positions, b"GETFORCE": self._forces,
        }  # fmt: skip
        while True:
            header = self._received(HEADER, at_end=True)
            if header is None or header.rstrip() == b"EXIT":
                return self.evaluated
            if header.rstrip() not in answers:
                raise InputError(f"{self.name} sent {header!r}, which i-PI does not; check address and port")
            answers[header.rstrip()]()

    def _status(self):
        state = "NEEDINIT" if self.batch is None else "READY" if self.found is None else "HAVEDATA"
        self._send(state.ljust(HEADER).encode())

    def _begin(self):
        _, length = self._numbers(2, np.int32)
        if not 0 <= length <= LONGEST_TEXT:
            raise self._foreign(f"a text of {length} bytes")
        self.batch = 1
        for word in self._received(int(length)).decode("utf-8", "replace").split(","):
            key, _, value = word.partition(":")
            if key.strip() == "batch_size":
                value = value.strip()
                if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MOST_IN_BATCH):
                    raise self._foreign(f"a batch size of {value[:20]!r}")
                self.batch = int(value)

    def _positions(self):
        n = self.batch or 1
        if n > 1:    # the number of atoms, all cells, all positions; else a cell, the number, positions
            self._check_number()
            cells = self._numbers(18 * n).reshape(n, 2, 3, 3)[:, 0]
        else:
            cells = self._numbers(18).reshape(1, 2, 3, 3)[:, 0]
            self._check_number()
        positions = self._numbers(3 * n * self.n_atoms).reshape(n, -1, 3)
        cells = np.ascontiguousarray(cells.transpose(0, 2, 1))    # i-PI has cell vectors in columns
        self.found = self.evaluate(positions * Bohr, cells * Bohr)
        self.evaluated += n

    def _check_number(self):
        (n,) = self._numbers(1, np.int32)
        if n != self.n_atoms:
            raise InputError(f"i-PI sent {n} atoms, and the frame has {self.n_atoms}; give the frame of i-PI's input")

    def _forces(self):
        if self.found is None:
            raise self._foreign("GETFORCE before POSDATA")
        energy, forces, virials = self.found
        parts = [
            b"FORCEREADY".ljust(HEADER), (energy / Hartree).tobytes(), np.int32(self.n_atoms).tobytes(),
            (forces * (Bohr / Hartree)).tobytes(), (-virials / Hartree).tobytes(),
            np.zeros(len(energy), np.int32).tobytes(),    # lengths of texts beside them
        ]  # fmt: skip
        self._send(b"".join(parts))
        self.found = None

    def _foreign(self, what):
        return InputError(f"{self.name} sent {what}, which i-PI does not; check address and port")

    def _numbers(self, n, dtype=np.float64):
        return np.frombuffer(self._received(n * np.dtype(dtype).itemsize), dtype)

    def _received(self, n, at_end=False):
        """So many bytes; None where the server has ended and may have."""
        parts, left = [], n
        while left:
            try:
                part = self.connection.recv(min(left, 1 << 20))
            except OSError:
                part = b""
            if not part:
                if at_end and left == n:
                    return None
                raise FastdescError(f"i-PI at {self.name} ended in the middle of a message; look at its output")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _send(self, data):
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise FastdescError(f"i-PI at {self.name} has gone ({error}); look at its output") from error


def _address(host, port, unix):
    """(host, port), or the path of a socket; InputError for what is neither."""
    if unix is not None:
        unix = str(unix) if isinstance(unix, Path) else unix
        if not isinstance(unix, str) or not unix or "\0" in unix:
            raise InputError(f"unix came as {brief(unix)}; give the <address> of i-PI's <ffsocket mode='unix'>")
        return unix if "/" in unix else PREFIX + unix
    if not isinstance(host, str) or not host or "\0" in host:
        raise InputError(f"host came as {brief(host)}; give a name or an address, such as 'localhost'")
    count("port", port, 1, 65535)
    return host, int(port)


def _name(address):
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def _connected(address, wait):
    """A connection; InputError where none is there after `wait` seconds."""
    end = time.monotonic() + wait
    while True:
        try:
            if isinstance(address, str):
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(address)
            else:
                connection = socket.create_connection(address, timeout=max(wait, 1.0))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(None)
            return connection
        except (OSError, UnicodeError) as error:
            if isinstance(address, str):
                connection.close()
            if time.monotonic() >= end:
                raise InputError(
                    f"i-PI does not answer at {_name(address)} ({error}); start it first, and compare address and port "
                    "of its <ffsocket>"
                ) from error
            time.sleep(RETRY)
