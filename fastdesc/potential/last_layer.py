"""What a potential is linear in: its last layer, and the features that the weights of this layer multiply.

With the parameters w of the last layers of all networks and of the direct term in one vector, the energy (1) of
fastdesc/potential/evaluation.py is

    E_i = phi_i · w + E0_{Z_i},    phi_i = (scale_{Z_i} h_i, scale_{Z_i}, q_i[direct])                        (1)

where h_i is what the network's last layer multiplies. An atom has few of the entries of phi_i: those of its element.
"""

from dataclasses import dataclass

import numpy as np

from fastdesc.backend.arrays import namespace, to_device
from fastdesc.geometry import frame_sums
from fastdesc.potential.evaluation import over_chunks


@dataclass(frozen=True)
class LastLayer:
    """Where the entries of phi stand.

    Attributes
    ----------
    n : int
        Length of w.
    places : (n_species, n_rows) int array
        Place of each of an atom's entries in w, by element.
    n_hidden : int
        Rows of h among an atom's entries; the constant follows where there is one, then the direct term.
    constant : bool
    direct : (n_direct,) int array
        Features that enter the energy directly.
    """

    n: int
    places: np.ndarray
    n_hidden: int
    constant: bool
    direct: np.ndarray

    @classmethod
    def of(cls, model, direct_columns):
        """The last layer of a Model whose features `direct_columns` enter the energy directly."""
        head, n_species = model.networks[0], len(model.scale)
        of_network = head.n_last + head.constant
        network = np.arange(n_species) if len(model.networks) > 1 else np.zeros(n_species, int)
        direct = np.asarray(direct_columns, int)
        own = network[:, None] * of_network + np.arange(of_network)
        start = len(model.networks) * of_network
        more = start + np.arange(n_species)[:, None] * len(direct) + np.arange(len(direct))
        n = start + n_species * len(direct)
        return cls(n, np.concatenate([own, more], axis=1), head.n_last, head.constant, direct)

    @property
    def n_rows(self):
        """Number of entries of an atom."""
        return self.places.shape[1]

    def features(self, model, q, species, chunks):
        """Entries of phi (1) of every atom.

        Parameters
        ----------
        q : (n_features, n_atoms) array
        chunks : list
            (network, columns, saved, ..) as the tape of an evaluation has them.

        Returns
        -------
        (n_rows, n_atoms) array, eV
        """
        return self._filled(model, q, species, chunks, lambda head, k: head.last(chunks[k][2]), 1)

    def tangents(self, model, tq, species, chunks, tangents):
        """Tangents of the same entries, from those of features tq and what the heads' `tangent` saved per chunk."""
        last = lambda head, k: head.last_tangent(chunks[k][2], tangents[k])    # noqa: E731
        return self._filled(model, tq, species, chunks, last, 0)

    def _filled(self, model, q, species, chunks, last, constant):
        xp = namespace(q)
        phi = xp.empty((self.n_rows, q.shape[-1]), q.dtype)
        scale = model.scale[species]
        if self.n_hidden:
            for k, (z, columns, *_) in enumerate(chunks):
                phi[: self.n_hidden, columns] = last(model.networks[z], k) * scale[columns]
        if self.constant:
            phi[self.n_hidden] = constant * scale
        if len(self.direct):
            phi[self.n_rows - len(self.direct) :] = q[xp.asarray(self.direct)]
        return phi

    def by_frame(self, phi, pairs, species):
        """Sums of phi over the atoms of each frame, float64 (n_frames, n)."""
        xp = namespace(phi)
        out = xp.zeros((pairs.n_frames, self.n))
        for z, place in enumerate(self.places):
            own = xp.where(species == z, phi, 0) if len(self.places) > 1 else phi
            out[:, xp.asarray(place)] += frame_sums(own, pairs)
        return out

    def pullback(self, model, q, species, chunks, w):
        """Gradient with respect to the features of sum_i phi_i · w.

        Parameters
        ----------
        w : (n,) float64 array of the host

        Returns
        -------
        dq : (n_features, n_atoms) array
        """
        xp = namespace(q)
        rows = to_device(w[self.places].astype(q.dtype), "cpu" if xp is np else "cuda")
        dq, scale = xp.empty(q.shape, q.dtype), model.scale[species]
        if not self.n_hidden:
            dq[...] = 0

        def task(k, _):
            z, columns, saved, *_ = chunks[k]
            head = model.networks[z]
            dx = head.last_pullback(saved, rows[z, : self.n_hidden, None])
            dq[:, columns] = dx * scale[columns]
            return []

        if self.n_hidden:
            over_chunks(task, chunks, q)
        if len(self.direct):
            direct = rows[:, self.n_rows - len(self.direct) :]
            dq[xp.asarray(self.direct)] += xp.take(direct.T, species, axis=1)
        return dq
