"""i-PI, the real program where it is installed: beads one by one and in batches; and servers that are none."""

import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.units import Bohr, Hartree
from helpers.training import small_potential

from fastdesc import ipi
from fastdesc.cli import main
from fastdesc.errors import FastdescError, InputError

PROGRAM = next((str(p) for p in (Path(sys.executable).with_name("i-pi"),) if p.exists()), None) or shutil.which("i-pi")
INPUT = """\
<simulation verbosity='low' safe_stride='1000'>
  <output prefix='out'>
    <properties stride='1' filename='energies'> [step, potential, pressure_cv] </properties>
    <trajectory filename='at' stride='1' format='ase'> positions </trajectory>
    <trajectory filename='by' stride='1' format='ase'> forces </trajectory>
  </output>
  <total_steps>3</total_steps>
  <ffsocket name='fastdesc' mode='{mode}' pbc='False'>
    <address>{address}</address> <port>{port}</port> {batch}
  </ffsocket>
  <system>
    <initialize nbeads='4'>
      <file mode='ase'> init.extxyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='fastdesc'/> </forces>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 1 </timestep> </dynamics>
    </motion>
  </system>
  <prng> <seed>7</seed> </prng>
</simulation>
"""


def alloy():
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[0] = 79
    atoms.rattle(0.05, seed=1)
    return atoms


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.skipif(PROGRAM is None, reason="i-PI is not installed: pip install ipi")
@pytest.mark.parametrize("mode, batch", [("inet", "<batch_size>4</batch_size>"), ("unix", "")])
def test_beads_in_the_real_program(tmp_path, mode, batch, capsys):
    from ase.io import read, write

    potential, atoms, port = small_potential(), alloy(), free_port()
    potential.save(tmp_path / "model.h5")
    write(tmp_path / "init.extxyz", atoms)
    address = "127.0.0.1" if mode == "inet" else f"fastdesc-{port}"
    (tmp_path / "input.xml").write_text(INPUT.format(mode=mode, address=address, port=port, batch=batch))
    server = subprocess.Popen([PROGRAM, "input.xml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        where = ["--host", address, "--port", str(port)] if mode == "inet" else ["--unix", address]
        code = main(["ipi", str(tmp_path / "model.h5"), str(tmp_path / "init.extxyz"), *where, "--wait", "60"])
        told = server.communicate(timeout=60)[0].decode()
    finally:
        server.kill()
    assert code == 0 and server.returncode == 0, told
    assert "i-PI answers at" in (out := capsys.readouterr().out) and "16 structures evaluated" in out
    energies = np.loadtxt(tmp_path / "out.energies")
    assert len(energies) == 4
    found = []
    for bead in range(4):
        at, by = (read(tmp_path / f"out.{kind}_{bead}.extxyz", ":") for kind in ("at", "by"))
        for frame in at:    # the elements and the cell are not in doubt
            frame.numbers, frame.pbc = atoms.numbers, True
            frame.cell = atoms.cell
        predicted = potential.predict(at)
        found.append(predicted.energy)
        forces = np.concatenate([frame.get_forces() for frame in by])
        np.testing.assert_allclose(forces, predicted.forces, atol=2e-7)    # eight decimals of both are in the file
    np.testing.assert_allclose(energies[:, 1], np.mean(found, axis=0) / Hartree, rtol=1e-6)


class Server:
    """A server that sends what it is told and keeps what it gets."""

    def __init__(self, *sent):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.sent, self.got = self.socket.getsockname()[1], sent, b""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        connection, _ = self.socket.accept()
        with connection, self.socket, suppress(OSError):    # clients go where they refuse something
            for data in self.sent:
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(4096):
                self.got += part


def header(word):
    return word.ljust(12).encode()


def positions(atoms, n=None):
    cell = np.stack([atoms.cell.array.T, np.linalg.inv(atoms.cell.array.T)]) / Bohr
    number = np.int32(len(atoms) if n is None else n).tobytes()
    return header("POSDATA") + cell.tobytes() + number + (atoms.positions / Bohr).tobytes()


def begin(text=b""):
    return header("INIT") + np.int32([0, len(text)]).tobytes() + text


def test_what_is_sent_back():
    """Energy, forces and the virial in atomic units; states in between."""
    potential, atoms = small_potential(), alloy()
    server = Server(header("STATUS"), begin(), header("STATUS"), positions(atoms), header("STATUS"), header("GETFORCE"),
                    header("STATUS"), header("EXIT"))    # fmt: skip
    assert ipi.run_client(potential, atoms, host="127.0.0.1", port=server.port) == 1
    server.thread.join()
    states = [server.got[:12], server.got[12:24], server.got[24:36], server.got[-12:]]
    assert [s.strip() for s in states] == [b"NEEDINIT", b"READY", b"HAVEDATA", b"READY"]
    assert server.got[36:48] == header("FORCEREADY")
    numbers = np.frombuffer(server.got[48:-12], np.uint8)
    expected = potential.predict(atoms)
    assert np.frombuffer(numbers[:8], float)[0] == pytest.approx(expected.energy[0] / Hartree, rel=1e-12)
    found = np.frombuffer(numbers[12 : 12 + 96], float).reshape(4, 3)
    np.testing.assert_allclose(found, expected.forces * Bohr / Hartree, atol=1e-12)
    virial = np.frombuffer(numbers[108:180], float).reshape(3, 3)
    volume = atoms.get_volume()
    np.testing.assert_allclose(np.diag(virial), -expected.stress[0][:3] * volume / Hartree, atol=1e-12)
    assert len(numbers) == 184


def test_bad_input(tmp_path):
    potential, atoms = small_potential(), alloy()
    long = header("INIT") + np.int32([0, 2**31 - 1]).tobytes()
    for sent, told in (
        ([b"GET / HTTP/1"], "which i-PI does not"), ([positions(atoms, 7)], "i-PI sent 7 atoms, and the frame has 4"),
        ([begin(b"batch_size:-3")], "a batch size of '-3'"), ([long], "a text of 2147483647 bytes"),
        ([header("GETFORCE")], "GETFORCE before POSDATA"), ([positions(atoms)[:200]], "in the middle of a message"),
    ):  # fmt: skip
        server = Server(*sent)
        with pytest.raises(FastdescError, match=told):
            ipi.run_client(potential, atoms, host="127.0.0.1", port=server.port)
        server.thread.join()
    near = atoms.copy()
    near.positions[1] = near.positions[0]
    broken = atoms.copy()
    broken.positions[2] = np.nan
    for wrong in (near, broken):
        server = Server(positions(wrong))
        with pytest.raises(InputError, match="atom"):
            ipi.run_client(potential, atoms, host="127.0.0.1", port=server.port)
        server.thread.join()
    given = {"potential": potential, "atoms": atoms, "port": free_port(), "wait": 0}
    for name, value, told in (
        ("port", 0, "port came as 0"), ("port", "x", "port came"), ("host", 3, "host came as 3"),
        ("unix", "", "unix came"), ("wait", np.nan, "wait came"), ("host", "127.0.0.1", "does not answer"),
        ("unix", "no-such-server", "does not"),
        ("atoms", [atoms, atoms], "2 frames came"), ("atoms", 3, ""), ("potential", 3, "give a Potential"),
        ("potential", "missing.h5", "missing.h5"), ("atoms", bulk("Al"), "Al"), ("dtype", "x", "dtype"),
    ):  # fmt: skip
        with pytest.raises(FastdescError, match=told or None):
            ipi.run_client(**{**given, name: value})
    assert main(["ipi", "missing.h5", "missing.xyz"]) == 2
