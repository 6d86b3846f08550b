"""What the pair style calls: models, one evaluation, and the exchange in the middle of it (pair_fastdesc.cpp)."""

import ctypes
import hashlib
from pathlib import Path

import numpy as np

from fastdesc.backend.arrays import namespace, resolve_device, resolve_dtype, to_device, to_host
from fastdesc.backend.cuda import take_gpu
from fastdesc.backend.jit import kernel
from fastdesc.backend.workspace import kept_memory
from fastdesc.errors import FastdescError, InputError
from fastdesc.geometry import virials
from fastdesc.lammps.virials import atom_virials
from fastdesc.pairs.ghost_list import GhostList, near
from fastdesc.potential.evaluation import energies_and_forces
from fastdesc.potential.loading import load
from fastdesc.potential.one_pass import one_pass, suits
from fastdesc.potential.uncertainty import DomainSpread
from fastdesc.structures import finite

SENTENCE, DIGEST = 2048, 64
SKIN = 0.5
"""Å beyond the cutoff that steps evaluate; LAMMPS' own is often larger, and is then looked through less often."""
NO_CELL = np.zeros((1, 3, 3))
ORDER = [0, 4, 8, 1, 2, 5, 3, 6, 7]
"""LAMMPS' order xx, yy, zz, xy, xz, yz, yx, zx, zy of a flat 3x3 matrix."""
OPTIONS = {"dtype": ("float64", "float32"), "device": ("cpu", "cuda", "auto")}


class Step(ctypes.Structure):
    """FastdescStep of pair_fastdesc.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("model", "n_local", "n_all", "n_rows", "rebuilt")),
        *((name, ctypes.c_void_p) for name in ("type", "centres", "j", "row", "x", "f", "eatom", "vatom", "cvatom")),
        *((name, ctypes.c_void_p) for name in ("grade", "uncertainty")),
        *((name, ctypes.POINTER(ctypes.c_double)) for name in ("energy", "virial")),
        ("pair", ctypes.c_void_p),
    ]


OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_double),
    ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip
STEP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Step), ctypes.c_void_p)
CLOSE = ctypes.CFUNCTYPE(None, ctypes.c_int64)


class Runtime:
    """The Python side of one loaded pair style.

    Parameters
    ----------
    library : ctypes.CDLL
        The compiled pair style.
    """

    def __init__(self, library):
        library.fastdesc_exchange.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        self.compiled, self.models, self.last = library, {}, 0
        # Kept: ctypes would free them while LAMMPS still calls.
        self.calls = OPEN(self._open), STEP(self._step), CLOSE(self._close)
        library.fastdesc_register(*self.calls)

    def node(self):
        """Number of this rank on its node, and how many ranks the node has."""
        rank, size = ctypes.c_int(), ctypes.c_int()
        self.compiled.fastdesc_node(ctypes.byref(rank), ctypes.byref(size))
        return rank.value, size.value

    def _open(self, words, number, cutoff, digest, sentence):
        try:
            opened = open_model(words.decode(), self)
        except BaseException as error:
            return _tell(error, sentence)
        self.last += 1
        self.models[self.last] = opened
        number[0], cutoff[0] = self.last, float(opened.cutoff)
        ctypes.memmove(digest, opened.digest.encode()[: DIGEST - 1], DIGEST - 1)
        return 0

    def _step(self, step, sentence):
        try:
            step = step.contents
            self.models[step.model].evaluate(step, self.compiled)
            return 0
        except BaseException as error:    # nothing may leave through C++
            return _tell(error, sentence)

    def _close(self, number):
        self.models.pop(number, None)


def _tell(error, sentence):
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, FastdescError):
        text = f"{type(error).__name__}: {text}"
    ctypes.memmove(sentence, text.encode()[: SENTENCE - 1] + b"\0", min(len(text.encode()), SENTENCE - 1) + 1)
    return 1


def open_model(words, runtime=None):
    """Make a LammpsModel of what stands behind pair_style and pair_coeff.

    Parameters
    ----------
    words : str
        Words of pair_style, a line end, model file and elements of pair_coeff; words are apart by tabs.

    Raises
    ------
    InputError, FileFormatError
        For unknown options, a file that is no model, and elements that the model does not know.
    """
    style, coeff = ([w for w in line.split("\t") if w] for line in words.split("\n"))
    options = {name: values[0] for name, values in OPTIONS.items()}
    for name, value in zip(style[::2], [*style[1::2], ""], strict=False):
        if value not in OPTIONS.get(name, ()):
            known = "; ".join(f"{n} {' or '.join(v)}" for n, v in OPTIONS.items())
            raise InputError(f"pair_style fastdesc came with {f'{name} {value}'.strip()!r}; it takes {known}")
        options[name] = value
    path, *elements = coeff
    return LammpsModel(load(path), Path(path).read_bytes(), elements, runtime, **options)


class LammpsModel:
    """A potential for the atom types of one LAMMPS run.

    Parameters
    ----------
    potential : Potential
    content : bytes
        Of its file, by which ranks tell whether they have the same.
    elements : list of str
        For each atom type, "NULL" for those that are left to other pair styles.
    runtime : Runtime, optional
        Tells which GPU is this rank's.
    """

    def __init__(self, potential, content, elements, runtime=None, dtype="float64", device="cpu"):
        from ase.data import atomic_numbers, chemical_symbols

        known = potential.descriptor.species_numbers
        for element in elements:
            if element != "NULL" and atomic_numbers.get(element) not in known:
                names = ", ".join(chemical_symbols[z] for z in known)
                raise InputError(f"pair_coeff names {element!r} and the model knows {names} (or NULL)")
        self.potential, self.cutoff = potential, float(potential.descriptor.cutoff)
        self.digest = hashlib.sha256(content + repr((elements, dtype)).encode()).hexdigest()
        of_types = [-1, *(-1 if e == "NULL" else known.index(atomic_numbers[e]) for e in elements)]
        self.species = np.array(of_types, np.int32)
        self.device = resolve_device(device)
        if self.device == "cuda" and runtime is not None:
            take_gpu(runtime.node()[0])    # ranks of a node share its GPUs out
        self.model = potential.model(resolve_dtype(dtype), self.device)
        self.ghosts = self.taken_at = self.spread = None

    def evaluate(self, step, library):
        """Do what one call of Pair::compute asks for."""
        with kept_memory():
            self._evaluate(step, library)

    def _evaluate(self, step, library):
        n = step.n_all
        positions = _view(step.x, ctypes.c_double, (n, 3))
        if step.rebuilt or self.ghosts is None or farthest(self.taken_at, positions) > SKIN / 2:
            self._take(step, positions)
        ghosts = self.ghosts
        spread = self._spread() if step.grade or step.uncertainty else None
        if suits(self.model) and not (step.vatom or step.cvatom):
            given = positions[ghosts.atoms], NO_CELL, ghosts.centres, ghosts.species
            found = one_pass(self.model, *given) if spread is None else spread.one_pass(*given)
            if found is not None:
                found, uncertainties = (found, {}) if spread is None else found
                self._hand_back(step, *found, **uncertainties)
                self._repel(step, positions)
                return
        rij = to_device(ghosts.vectors(positions, self.model.scale.dtype), self.device)
        whole, centres, species = self.placed
        whole.exchange = LammpsExchange(library, step.pair, n, ghosts)
        if spread is None:
            (out, found, drij), uncertainties = energies_and_forces(self.model, rij, centres, species), {}
        else:
            (out, found, drij), uncertainties = spread.energies_and_forces(rij, centres, species)
        w = to_host(virials(rij, drij, centres))
        self._hand_back(step, to_host(out), to_host(found), w, **uncertainties)
        self._repel(step, positions)
        if n == 0:
            return
        if step.vatom or step.cvatom:
            w = atom_virials(rij, drij, whole)
            if step.cvatom:
                _view(step.cvatom, ctypes.c_double, (n, 9))[ghosts.atoms] += w
            if step.vatom:
                w[:, 3:6] = 0.5 * (w[:, 3:6] + w[:, 6:9])
                _view(step.vatom, ctypes.c_double, (n, 6))[ghosts.atoms] += w[:, :6]

    def _spread(self):
        """What evaluates uncertainties too, made when they are first asked for."""
        if self.device == "cuda":
            raise InputError("fix pair asks for uncertainties, which are found on the CPU; use device cpu")
        if self.spread is None:
            self.spread = DomainSpread(self.potential, self.model)
        return self.spread

    def _hand_back(self, step, energies, forces, w, energies_uncertainty=None, grade=None):
        """Energies of our atoms without references, forces of all, the virial and what was asked for, to LAMMPS."""
        ghosts, n = self.ghosts, step.n_all
        if not (finite(forces) and np.isfinite(energies).all()):
            raise InputError("energies or forces are not finite; look for atoms that are too close, or take a shorter "
                             "time step")    # fmt: skip
        own = energies + self.potential.reference[ghosts.species[: ghosts.n_own]]
        step.energy[0] = float(own.sum())
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
            step.virial[k] = -w[0, a, b]
        if n == 0:
            return
        add_rows(forces, ghosts.atoms, _view(step.f, ctypes.c_double, (n, 3)))
        if step.eatom:
            _view(step.eatom, ctypes.c_double, (n,))[ghosts.atoms[: ghosts.n_own]] += own
        for address, values in ((step.grade, grade), (step.uncertainty, energies_uncertainty)):
            if address:
                _view(address, ctypes.c_double, (step.n_local,))[ghosts.atoms[: ghosts.n_own]] = values

    def _repel(self, step, positions):
        """Add the repulsion of nuclei, which needs no exchange: each atom's force comes from its own row."""
        ghosts, n = self.ghosts, step.n_all
        if self.potential.repulsion is None or n == 0:
            return
        given = positions[ghosts.atoms], NO_CELL, ghosts.centres, ghosts.species
        energies, forces, w = self.potential.repulsion.of_atoms(*given)
        step.energy[0] += float(energies.sum())
        for k, component in enumerate(ORDER[:6]):
            step.virial[k] -= w[component].sum()
        own = ghosts.atoms[: ghosts.n_own]
        _view(step.f, ctypes.c_double, (n, 3))[own] += forces[: ghosts.n_own]
        if step.eatom:
            _view(step.eatom, ctypes.c_double, (n,))[own] += energies
        for address, width in ((step.vatom, 6), (step.cvatom, 9)):
            if address:
                _view(address, ctypes.c_double, (n, width))[own] -= w[ORDER[:width]].T

    def _take(self, step, positions):
        """Take from LAMMPS' list, whose skin may be large, what the next steps need."""
        row = _view(step.row, ctypes.c_int64, (step.n_rows + 1,))
        centres = _view(step.centres, ctypes.c_int32, (step.n_rows,))
        j = _view(step.j, ctypes.c_int32, (int(row[-1]),))
        species = self.species[_view(step.type, ctypes.c_int32, (step.n_all,))]
        row, j = near(centres, row, j, positions, self.cutoff + SKIN)
        ghosts = self.ghosts = GhostList(centres, row, j, species)
        self.taken_at = positions.copy()
        whole = ghosts.pairs.to_device(self.device)
        self.placed = whole, whole.centres(ghosts.n_own), to_device(ghosts.species, self.device)


@kernel
def farthest(before, now):
    """The largest distance, in Å, by which atoms moved; of (n, 3) arrays."""
    most = 0.0
    for a in range(len(now)):
        u, v, w = now[a, 0] - before[a, 0], now[a, 1] - before[a, 1], now[a, 2] - before[a, 2]
        most = max(most, u * u + v * v + w * w)
    return np.sqrt(most)


@kernel
def add_rows(values, at, out):
    """out[at] += values, for places that are all different."""
    for k in range(len(at)):
        for c in range(values.shape[1]):
            out[at[k], c] += values[k, c]


class LammpsExchange:
    """The exchange between ranks, and between an atom and its periodic images, by LAMMPS.

    Parameters
    ----------
    library : ctypes.CDLL
    pair : address of the pair style
    n_all : int
        Atoms that this rank knows.
    ghosts : GhostList
    """

    def __init__(self, library, pair, n_all, ghosts):
        self.compiled, self.pair, self.n_all = library, pair, n_all
        self.own, self.ghosts = ghosts.atoms[: ghosts.n_own], ghosts.atoms[ghosts.n_own :]

    def forward(self, values):
        """Overwrite the ghosts' values by those of their owners."""
        sent = np.zeros((self.n_all, values.shape[1]))
        sent[self.own] = to_host(values[: len(self.own)])
        self._exchange(sent, 1)
        values[len(self.own) :] = namespace(values).asarray(sent[self.ghosts])

    def reverse(self, values):
        """Add the ghosts' values to those of their owners."""
        sent = np.zeros((self.n_all, values.shape[1]))
        sent[self.own], sent[self.ghosts] = np.split(to_host(values), [len(self.own)])
        self._exchange(sent, 0)
        values[: len(self.own)] = namespace(values).asarray(sent[self.own])

    def _exchange(self, sent, forward):
        self.compiled.fastdesc_exchange(self.pair, sent.ctypes.data, sent.shape[1], forward)


def _view(address, kind, shape):
    """The array that lies at an address."""
    n = int(np.prod(shape))
    if n == 0 or not address:
        return np.zeros(shape, np.dtype(kind))
    return np.ctypeslib.as_array((kind * n).from_address(address)).reshape(shape)
