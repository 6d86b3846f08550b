"""Energy and its gradient: one potential over a list of pairs.

    E_i = scale_{Z_i} N(q_i) + w_{Z_i} · q_i + E0_{Z_i},        dr = pullback(dE/dq)                      (1)

with one network N for all elements or one for each, and the direct term w where there is one.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from fastdesc.backend.arrays import empty, joined, namespace, padded
from fastdesc.backend.device_memory import in_pieces
from fastdesc.backend.threads import for_chunks, single_threaded_blas
from fastdesc.geometry import forces, frame_sums, pair_vectors, virials, virials_of_rows
from fastdesc.pairs.pieces import pieces
from fastdesc.potential import one_density, recursive_pass
from fastdesc.potential.one_pass import one_pass, suits

CHUNK = 256
"""Atoms that a network takes at a time on the CPU: its layers then stay in the second-level cache."""


@dataclass
class Model:
    """A potential's parameters in one dtype on one device, the feature scaler folded into the first layers.

    Attributes
    ----------
    descriptor : Descriptor
    theta : dict of str to array
    networks : list of running heads (fastdesc.networks.heads)
        One, shared by all elements, or one per element.
    scale : (n_species,) array
        eV.
    direct : (n_species, n_features) array or None
        w of (1), eV.
    repulsion : Repulsion or None
        Of nuclei (fastdesc/potential/repulsion.py), which is added to what whole evaluations return.
    packed : tuple, or None
        What fastdesc.potential.one_pass, one_density or large_system made of the parameters, kept for the next call.
    spread : SpreadOfBlocks, or None
        What fastdesc.potential.uncertainty made of the last layers, kept likewise.
    """

    descriptor: Any
    theta: dict[str, Any]
    networks: list[Any]
    scale: Any
    direct: Any = None
    repulsion: Any = None
    packed: Any = None
    spread: Any = None

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the parameters are."""
        return "cpu" if isinstance(self.scale, np.ndarray) else "cuda"


@dataclass
class Tape:
    """What a forward pass leaves for the passes back; nothing else is remembered between calls."""

    dq: object
    chunks: list


def columns_of(model, known, species, first, last):
    """Yield (network index, columns of this chunk) with a slice where one network serves all; `known` Pairs.columns."""
    if len(model.networks) == 1:
        yield 0, slice(first, last)
        return
    if known is not None and last - first == len(species):
        yield from ((z, columns) for z, columns in enumerate(known) if len(columns))
        return
    xp = namespace(species)
    for z in range(len(model.networks)):
        columns = xp.flatnonzero(species[first:last] == z)
        if len(columns):
            yield z, columns + first


def by_element(model, known, species, n):
    """Atoms that one network takes at a time: [(network index, columns)], every atom once.

    One network for all takes runs of CHUNK atoms, as slices; of several each takes its own atoms, up to CHUNK of them
    wherever they are: however many elements there are, products are as large as they can be.
    """
    if namespace(species) is not np:
        return list(columns_of(model, known, species, 0, n))
    if len(model.networks) == 1:
        return [(0, slice(first, min(first + CHUNK, n))) for first in range(0, n, CHUNK)]
    order = np.argsort(species[:n], kind="stable")
    ends = np.cumsum(np.bincount(species[:n], minlength=len(model.networks)))
    runs = zip(ends, np.diff(ends, prepend=0), strict=True)
    return [
        (z, _as_slice(order[first : min(first + CHUNK, end)]))
        for z, (end, size) in enumerate(runs)
        for first in range(end - size, end, CHUNK)
    ]


def _as_slice(columns):
    """Ascending numbers, as a slice where none between them is missing: nothing is then copied."""
    first, last = int(columns[0]), int(columns[-1])
    return slice(first, last + 1) if last - first + 1 == len(columns) else columns


def over_elements(task, parts, device_array):
    """Run task(network index, columns) over what `by_element` returned; results in its order."""
    if namespace(device_array) is not np:
        return [task(*part) for part in parts]
    with single_threaded_blas():
        found = for_chunks(lambda a, b: [task(*part) for part in parts[a:b]], len(parts), 1)
    return [one for several in found for one in several]


def direct_weights(model, species):
    """w of (1) for each atom, (n_features, n_atoms)."""
    return namespace(species).take(model.direct.T, species, axis=1)


def over_atoms(task, n, device_array, chunk=CHUNK):
    """Run a task over chunks of atoms, our threads instead of those of BLAS; on a GPU in one piece."""
    if namespace(device_array) is not np:
        return [task(0, n)]
    with single_threaded_blas():
        return for_chunks(task, n, chunk)


def over_chunks(task, chunks, device_array):
    """Run a task over the numbers of chunks of a tape."""
    if namespace(device_array) is np:
        return over_atoms(task, len(chunks), device_array, chunk=1)
    return [task(k, k + 1) for k in range(len(chunks))]


def energies(model, positions, cells, pairs, species):
    """Atomic energies (1) without E0 and without derivatives, float64 (n_atoms,), eV; as `energies_forces_virials`."""
    found = one_pass(model, positions, cells, pairs, species, derivatives=False) if suits(model) else None
    if found is not None:
        out, *_ = found
    else:
        work = partial(_energies_of_pieces, model, positions, cells, pairs, species)
        out = _in_pieces(work, model, pairs, False) if model.device == "cuda" else work([(0, pairs.n_atoms)])
    return out if model.repulsion is None else out + model.repulsion.of_atoms(positions, cells, pairs, species)[0]


def _energies_of_pieces(model, positions, cells, pairs, species, bounds):
    """Atomic energies of atoms in pieces with these bounds."""
    out = []
    for piece in pieces(positions, pairs, species, bounds):
        rij = pair_vectors(piece.positions, cells, piece.pairs, model.scale.dtype)
        q, _ = model.descriptor.forward(rij, piece.pairs, piece.species, model.theta)
        own = piece.species[: piece.pairs.n_atoms]
        out.append(energies_of_features(model, q, own, columns=piece.pairs.columns)[0])
    return joined(out)


def energies_of_features(model, q, species, keep=False, columns=None, look=None):
    """Atomic energies (1) without E0 of atoms whose features are known.

    Parameters
    ----------
    q : (n_features, n_atoms) array
    species : (n_atoms,) int32 array
    keep : bool
        Also return what `energy_loss_gradient` needs.
    columns : list of int arrays, optional
        Atoms of each element (Pairs.columns), which the host must otherwise ask a device for.
    look : callable, optional
        (network, columns, what its last layer multiplies) -> what is kept, instead of what `keep` keeps.

    Returns
    -------
    out : (n_atoms,) float64 array, eV
    chunks : list, or None
    """
    xp = namespace(q)
    out, direct = xp.zeros(q.shape[-1]), xp.zeros(q.shape[-1])

    def task(z, own):
        x = q[:, own]
        y, tape = model.networks[z].forward(x)
        out[own] = y[0]
        if model.direct is not None:
            direct[own] = (direct_weights(model, species[own]) * x).sum(axis=0)
        if look is not None:
            return look(z, own, last_of(model.networks[z], tape))
        return (z, own, tape, y) if keep else None

    chunks = over_elements(task, by_element(model, columns, species, q.shape[-1]), q)
    return out * model.scale.astype(np.float64)[species] + direct, chunks if keep or look else None


def last_of(head, saved):
    """What the last layer of a head multiplies; None where there is none."""
    return head.last(saved) if head.n_last else None


def energies_and_gradient(model, rij, pairs, species, keep=False):
    """Atomic energies (1) without E0, and the gradient of their sum with respect to the pair vectors.

    Parameters
    ----------
    rij : (3, n_pairs) array, Å
    pairs : Pairs
    species : (n_atoms,) int32 array
    keep : bool
        Also return the tape that `loss_gradient` needs.

    Returns
    -------
    out : (n_atoms,) float64 array, eV
    drij : (3, n_pairs) array, eV/Å
    tape : Tape or None
    """
    if not keep and one_density.suits(model):
        return *one_density.one_density(model, rij, pairs, species), None
    q, saved = model.descriptor.forward(rij, pairs, species, model.theta)
    out, dq, chunks = network_and_gradient(model, q, pairs, species, keep)
    drij = model.descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
    return out, drij, Tape(dq, chunks) if keep else None


def network_and_gradient(model, q, pairs, species, keep=False, look=None):
    """Atomic energies (1) without E0 of features, float64 (n_atoms,) in eV, their gradient dq, and chunks if kept.

    `look` as for `energies_of_features`.
    """
    xp, species = namespace(q), species[: pairs.n_atoms]
    dy = model.scale[species][None]
    scale = model.scale.astype(np.float64)[species]
    if xp is not np and len(model.networks) == 1 and model.direct is None:
        out, dq, chunk = _values_of_one(model.networks[0], q, dy, scale)
        return out, dq, [chunk] if keep or look else None
    dq = padded(q.shape, q.dtype, q)
    out, direct = empty((pairs.n_atoms,), np.float64, q), None if model.direct is None else xp.zeros(pairs.n_atoms)
    kept_or_not = _values_kept if keep or xp is not np else partial(_values, look=look)

    def task(z, columns):
        x = q[:, columns]
        kept = kept_or_not(model.networks[z], z, columns, x, dq, dy, scale, out)
        if direct is not None:
            w = direct_weights(model, species[columns])
            direct[columns] = (w * x).sum(axis=0)
            out[columns] += direct[columns]
            dq[:, columns] += w
        return kept

    chunks = over_elements(task, by_element(model, pairs.columns, species, pairs.n_atoms), q)
    return out, dq, chunks if keep or look else None


def _values_kept(head, z, columns, x, dq, dy, scale, out):
    """Scaled values of a network into out, gradients into dq; return what the passes back of training need."""
    y, tape = head.forward(x)
    dq[:, columns], chain = head.pullback(tape, dy[:, columns])
    out[columns] = y[0] * scale[columns]
    return z, columns, tape, chain, y


def _values_of_one(head, q, dy, scale):
    """What `network_and_gradient` returns where one network takes all atoms of a device: nothing is copied."""
    y, tape = head.forward(q)
    dq, chain = head.pullback(tape, dy)
    return y[0] * scale, dq, (0, slice(0, q.shape[-1]), tape, chain, y)


def _values(head, z, columns, x, dq, dy, scale, out, look=None):
    """Scaled values of a network into out, gradients into dq, on the host and in memory that is used again."""
    if isinstance(columns, slice):
        y = head.value_and_gradient(x, dy[:, columns], dq[:, columns])
        np.multiply(y[0], scale[columns], out=out[columns])
    else:
        dx = np.empty((len(x), len(columns)), x.dtype)
        y = head.value_and_gradient(x, dy[:, columns], dx)
        out[columns] = y[0] * scale[columns]
        dq[:, columns] = dx
    return None if look is None else look(z, columns, head.last_after(x) if head.n_last else None)


def energies_forces_virials(model, positions, cells, pairs, species):
    """Atomic energies (1) without E0, and what follows from them, with the repulsion of nuclei where there is one.

    Parameters
    ----------
    positions : float64 (n_atoms, 3), Å
    cells : float64 (n_frames, 3, 3), Å
    pairs : Pairs
    species : (n_atoms,) int32 array

    Returns
    -------
    out : (n_atoms,) float64 array, eV
    forces : (n_atoms, 3) float64 array, eV/Å
    virials : (n_frames, 3, 3) float64 array, eV: dE/dstrain
    """
    found = None
    if suits(model):
        found = one_pass(model, positions, cells, pairs, species)
    elif recursive_pass.suits(model, pairs):
        found = recursive_pass.recursive_pass(model, positions, cells, pairs, species)
    if found is None and model.device == "cuda":
        work = partial(_piece_by_piece, model, positions, cells, pairs, species)
        found = _in_pieces(work, model, pairs, derivatives=True)
    elif found is None:
        rij = pair_vectors(positions, cells, pairs, model.scale.dtype)
        out, drij, _ = energies_and_gradient(model, rij, pairs, species)
        found = out, forces_of_all(drij, pairs), virials(rij, drij, pairs)
    if model.repulsion is None:
        return found
    added = model.repulsion.evaluate(positions, cells, pairs, species)
    return tuple(a + b for a, b in zip(found, added, strict=True))


def _in_pieces(work, model, pairs, derivatives):
    """Do work(bounds of atoms) on a device, in pieces where all atoms together take more memory than it has."""
    each, d = pairs.n_pairs / max(pairs.n_atoms, 1), model.descriptor
    an_atom = d.bytes_an_atom(each, model.scale.dtype.itemsize, derivatives)
    return in_pieces(work, pairs.n_atoms, an_atom, d.own_row)


def _piece_by_piece(model, positions, cells, pairs, species, bounds):
    """`energies_forces_virials` of atoms in pieces: the same numbers, with the gradients of pairs alone for all."""
    xp, dtype = namespace(pairs.j), model.scale.dtype
    if len(bounds) == 1:
        rij = pair_vectors(positions, cells, pairs, dtype)
        out, drij, _ = energies_and_gradient(model, rij, pairs, species)
        return out, forces(drij, pairs), virials(rij, drij, pairs)
    drij, per_atom = xp.empty((3, pairs.n_pairs), dtype), xp.empty((9, pairs.n_atoms))
    energies_of_pieces = []
    for piece in pieces(positions, pairs, species, bounds):
        rij = pair_vectors(piece.positions, cells, piece.pairs, dtype)
        out, own, _ = energies_and_gradient(model, rij, piece.pairs, piece.species)
        virials_of_rows(rij, own, piece.pairs, per_atom[:, piece.atoms])
        drij[:, piece.of_pairs] = own
        energies_of_pieces.append(out)
    return joined(energies_of_pieces), forces(drij, pairs), frame_sums(per_atom, pairs).reshape(-1, 3, 3)


def energies_and_forces(model, rij, pairs, species):
    """Atomic energies (1) without E0 and forces, in stages where the list has ghosts.

    A stage goes as far as the next values of neighbours that may be ghosts; between two of them `pairs.whole.exchange`
    has the values sent. Without ghosts it does nothing, and this is the evaluation of whole frames.

    Parameters
    ----------
    rij : (3, n_pairs) array, Å
    pairs : Pairs
        Or the `centres` of a list with ghosts.
    species : int32 array
        Of all atoms, ghosts too.

    Returns
    -------
    out : float64 array, eV
        Of the centres.
    forces : float64 (n_atoms, 3) array, eV/Å
        Of all atoms: on ghosts what the pairs of these centres give.
    drij : (3, n_pairs) array, eV/Å
    """
    out, drij, _ = energies_and_gradient(model, rij, pairs, species)
    return out, forces_of_all(drij, pairs), drij


def forces_of_all(drij, pairs):
    """Forces on all atoms, ghosts too, (n_atoms, 3) float64; drij is set to zero in the rows of ghosts."""
    if pairs.whole is not pairs:
        drij[:, int(pairs.row[-1]) :] = 0
    return forces(drij, pairs.whole)
