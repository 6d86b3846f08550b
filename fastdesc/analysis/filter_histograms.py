"""Where the data lie that filters of distances and angles were trained on: counts of them, streamed over frames."""

from dataclasses import dataclass

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.io.sources import Source, build

BINS = 180
BATCH_ATOMS = 8192


@dataclass(frozen=True)
class FilterData:
    """Counts in equal bins.

    Attributes
    ----------
    distances : (n_species, BINS) int64
        Pairs by the neighbour's element, from 0 to `cutoff`.
    cosines : (n_species_pairs, BINS) int64
        Triplets with both neighbours within `triplet_cutoff`, each once, by their elements 00, 01, .., 0n, 11, ..,
        from -1 to 1.
    cutoff, triplet_cutoff : float
        Å.
    n_frames, n_atoms : int
    """

    distances: np.ndarray
    cosines: np.ndarray
    cutoff: float
    triplet_cutoff: float
    n_frames: int
    n_atoms: int

    def edges(self, angular):
        """Return the BINS + 1 edges of distances, or of cosines."""
        return np.linspace(-1, 1, BINS + 1) if angular else np.linspace(0, self.cutoff, BINS + 1)

    def counts(self, elements, angular):
        """Return the counts for what SplineFilters.elements_of says: of an element, of a pair of them, or of all."""
        rows = self.cosines if angular else self.distances
        if not elements:
            return rows.sum(0)
        if not angular:
            return rows[elements[0]]
        a, b = elements
        return rows[a * len(self.distances) - a * (a - 1) // 2 + b - a]

    def within(self, elements, angular, low, high):
        """Return how many lie in bins that touch the interval from `low` to `high`."""
        edges = self.edges(angular)
        return int(self.counts(elements, angular)[(edges[1:] >= low) & (edges[:-1] <= high)].sum())


def filter_data(descriptor, frames):
    """Count the distances and cosines of frames, which stream through.

    Parameters
    ----------
    descriptor : SplineFilters
    frames : str, Path, ase.Atoms, list of ase.Atoms, or list of paths

    Returns
    -------
    FilterData

    Raises
    ------
    InputError, FileFormatError
        For frames that cannot be used.
    """
    n = len(descriptor.species_numbers)
    distances, cosines = np.zeros((n, BINS), np.int64), np.zeros((n * (n + 1) // 2, BINS), np.int64)
    source, n_frames, n_atoms = Source(frames), 0, 0
    for raw in source.raw_batches(BATCH_ATOMS):
        batch = build(raw, source.files, with_info=False)
        rij, pairs, species = descriptor.prepare(batch.structures)
        most = int(np.diff(pairs.row).max(initial=1))
        close, unit = np.empty(most, np.int32), np.empty((3, most))
        filter_data_count(
            pairs.row, pairs.j, species, rij, float(descriptor.cutoff), float(descriptor.triplet_cutoff), n,
            close, unit, distances, cosines,
        )  # fmt: skip
        n_frames += batch.n_frames
        n_atoms += pairs.n_atoms
    return FilterData(
        distances, cosines, float(descriptor.cutoff), float(descriptor.triplet_cutoff), n_frames, n_atoms
    )


@kernel
def filter_data_count(row, j, species, rij, cutoff, triplet_cutoff, n_species, close, unit, distances, cosines):
    """Add the distances of all pairs, and the cosines of all unordered pairs of close neighbours; `close` (elements)
    and `unit` (3, directions) are scratch for the neighbours of one atom."""
    bins = distances.shape[1]
    for i in range(len(row) - 1):
        n = 0
        for p in range(row[i], row[i + 1]):
            x, y, z = rij[0, p], rij[1, p], rij[2, p]
            d = np.sqrt(x * x + y * y + z * z)
            distances[species[j[p]], min(int(d / cutoff * bins), bins - 1)] += 1
            if d < triplet_cutoff:
                close[n] = species[j[p]]
                unit[0, n], unit[1, n], unit[2, n] = x / d, y / d, z / d
                n += 1
        for k in range(n):
            for m in range(k):
                c = unit[0, k] * unit[0, m] + unit[1, k] * unit[1, m] + unit[2, k] * unit[2, m]
                a, b = min(close[k], close[m]), max(close[k], close[m])
                pair = a * n_species - a * (a - 1) // 2 + b - a
                cosines[pair, max(0, min(int((c + 1) / 2 * bins), bins - 1))] += 1
