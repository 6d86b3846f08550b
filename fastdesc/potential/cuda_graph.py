"""A captured evaluation: energies, forces and virials of the same atoms again and again, as one CUDA graph.

A step of a few hundred atoms is some thirty launches, and the host takes longer to ask for them than a GPU for the
work. A graph asks once. It repeats the launches of `energies_forces_virials`, which is the text of every other
evaluation too, on arrays that stay where they are:

- Positions and cells go into one buffer, results come out of another, with one copy each and one wait.
- A pair list goes into rows that are longer than it is. Kernels visit the pairs row[i] .. row[i + 1] of an atom, and so
  never what lies behind the last. A list that does not fit, or other atoms, need another capture.
- Whatever the evaluation allocates comes from a pool of the graph's own. What is freed while capturing may serve again
  later in the same graph, in the order of the stream, but nobody else; the pool lives as long as the graph.

The evaluation runs once before it is captured, so that kernels are compiled and the pool is filled, and once after,
from the graph: both must give the same bits.
"""

from contextlib import suppress

import numpy as np

from fastdesc.backend.arrays import namespace, pinned
from fastdesc.errors import DeviceError
from fastdesc.networks import feed_forward_cuda
from fastdesc.pairs import Pairs
from fastdesc.potential.evaluation import energies_forces_virials

MOST_ATOMS = feed_forward_cuda.MOST
"""More atoms than a network's kernels take at once keep a GPU busy for longer than the host needs to ask."""
HEADROOM, LEAST = 1.1, 1024
"""Pairs that fit for each that there was, and how many at least: a list of a solid changes by some percent."""


def check_size(n_atoms):
    """Raise DeviceError for more atoms than are captured."""
    if n_atoms > MOST_ATOMS:
        raise DeviceError(f"{n_atoms} atoms came, and up to {MOST_ATOMS} are captured as a CUDA graph")


class CapturedEvaluation:
    """Energies, forces and virials of one set of atoms, captured for one model and a number of pairs.

    Parameters
    ----------
    model : Model
        On a device.
    species : (n_atoms,) int32 array of the host
    pairs : Pairs
        Of the host.
    structures : Structures
        Of the host: positions and cells to begin with.

    Attributes
    ----------
    capacity : int
        Most pairs that fit.

    Raises
    ------
    DeviceError
        Where the evaluation cannot be captured; the message says why.
    """

    def __init__(self, model, species, pairs, structures):
        n, n_frames = pairs.n_atoms, pairs.n_frames
        check_size(n)
        self.model, self.species, self.first = model, species, pairs.first
        self.capacity = max(LEAST, int(HEADROOM * pairs.n_pairs))
        self._xp = xp = namespace(model.scale)
        self._pairs = Pairs(
            xp.zeros(n + 1, np.int64), xp.zeros(self.capacity, np.int32), xp.zeros((self.capacity, 3), np.int32),
            xp.zeros(self.capacity, np.int32), pairs.cutoff, pairs.first,
        )  # fmt: skip
        # Made here, not when they are first asked for: that would be while capturing.
        self._pairs.frame, self._pairs.bounds = xp.asarray(structures.frame_of_atom), xp.asarray(pairs.first)
        self._pairs.note_species(species, len(model.scale))
        self._species = xp.asarray(species)
        self._inputs, self._outputs = xp.zeros(3 * n + 9 * n_frames), xp.zeros(4 * n + 9 * n_frames)
        self._sent, self._received = (pinned(x.shape, x.dtype) for x in (self._inputs, self._outputs))
        self.take(pairs)
        self._send(structures)
        self._capture()

    def fits(self, pairs, species):
        """Whether a pair list of these atoms can be taken."""
        same = np.array_equal(pairs.first, self.first) and np.array_equal(species, self.species)
        return same and pairs.n_pairs <= self.capacity

    def take(self, pairs):
        """Evaluate over another pair list (of the host) from now on; it must fit."""
        n = pairs.n_pairs
        self._pairs.row.set(pairs.row)
        for name in ("j", "shift", "mirror"):
            getattr(self._pairs, name)[:n].set(getattr(pairs, name))

    def replay(self, structures):
        """Evaluate the captured atoms where they are now.

        Parameters
        ----------
        structures : Structures
            Of the host.

        Returns
        -------
        atomic : (n_atoms,) float64, eV
            Energies without E0.
        forces : (n_atoms, 3) float64, eV/Å
        virials : (n_frames, 3, 3) float64, eV
        """
        self._send(structures)
        self.launch()
        return self._fetched()

    def launch(self):
        """Ask for an evaluation of what was sent last, and go on: for those who time it."""
        self._graph.launch()

    def _send(self, structures):
        self._sent[: structures.positions.size] = structures.positions.reshape(-1)
        self._sent[structures.positions.size :] = structures.cells.reshape(-1)
        self._inputs.set(self._sent, stream=self._xp.cuda.get_current_stream())

    def _fetched(self):
        """Results, on the host; the one wait."""
        results, n = self._outputs.get(out=self._received).copy(), len(self.species)
        return results[:n], results[n : 4 * n].reshape(n, 3), results[4 * n :].reshape(-1, 3, 3)

    def _evaluate(self):
        n = len(self.species)
        positions, cells = self._inputs[: 3 * n].reshape(n, 3), self._inputs[3 * n :].reshape(-1, 3, 3)
        start = 0
        for found in energies_forces_virials(self.model, positions, cells, self._pairs, self._species):
            self._outputs[start : start + found.size] = found.reshape(-1)
            start += found.size

    def _capture(self):
        cuda = self._xp.cuda
        self._pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)
        cuda.get_current_stream().synchronize()    # the capturing stream cannot wait
        try:
            with stream, cuda.using_allocator(self._pool.malloc):
                self._evaluate()
                stream.synchronize()
                once = self._fetched()
                self._graph = self._captured(stream)
        except (RuntimeError, MemoryError) as problem:    # of CUDA, what CuPy has not implemented, and no room
            raise DeviceError(f"the evaluation could not be captured as a CUDA graph: {problem}") from problem
        self._outputs.fill(np.nan)
        self.launch()
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(once, self._fetched(), strict=True)):
            raise DeviceError("a CUDA graph of the evaluation was captured and gave other results than the evaluation")

    def _captured(self, stream):
        stream.begin_capture()
        try:
            self._evaluate()
        except BaseException:
            with suppress(RuntimeError):    # that the capture was ended by what went wrong
                stream.end_capture()
            raise
        return stream.end_capture()
