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
        Length of w: last layers of all networks, each with its constant at the end, then direct weights by element.
    places : tuple of (n_rows of this element,) int arrays
        Place in w of each entry of an atom, by element: direct term, constant, last layer.
    direct : (n_direct,) int array
        Features that enter the energy directly.
    constant : bool
        Whether last layers have a constant.
    """

    n: int
    places: tuple
    direct: np.ndarray
    constant: bool

    @classmethod
    def of(cls, model, direct_columns):
        """The last layer of a Model whose features `direct_columns` enter the energy directly."""
        heads, n_species, direct = model.networks, len(model.scale), np.asarray(direct_columns, int)
        ends = np.cumsum([head.n_last + head.constant for head in heads])
        places = []
        for z in range(n_species):
            k = z if len(heads) > 1 else 0
            own = ends[k] - heads[k].constant
            parts = (
                ends[-1] + z * len(direct) + np.arange(len(direct)),
                np.arange(own, ends[k]),
                np.arange(own - heads[k].n_last, own),
            )
            places.append(np.concatenate(parts))
        return cls(int(ends[-1]) + n_species * len(direct), tuple(places), direct, heads[0].constant)

    @property
    def n_rows(self):
        """Most entries of an atom."""
        return max(map(len, self.places))

    @property
    def _hidden(self):
        """Entries before those of the last layer."""
        return len(self.direct) + self.constant

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
            Zero beyond the entries of the atom's element.
        """
        return self._filled(model, q, species, chunks, lambda head, k: head.last(chunks[k][2]), 1)

    def tangents(self, model, tq, species, chunks, tangents):
        """Tangents of the same entries, from those of features tq and what the heads' `tangent` saved per chunk."""
        last = lambda head, k: head.last_tangent(chunks[k][2], tangents[k])    # noqa: E731
        return self._filled(model, tq, species, chunks, last, 0)

    def _filled(self, model, q, species, chunks, last, constant):
        xp, start = namespace(q), self._hidden
        phi = xp.zeros((self.n_rows, q.shape[-1]), q.dtype)
        scale = model.scale[species]
        for k, (z, columns, *_) in enumerate(chunks):
            head = model.networks[z]
            if head.n_last:
                phi[start : start + head.n_last, columns] = last(head, k) * scale[columns]
        if self.constant:
            phi[start - 1] = constant * scale
        if len(self.direct):
            phi[: len(self.direct)] = q[xp.asarray(self.direct)]
        return phi

    def entries(self, last, q, atoms, scale):
        """Entries of phi (1) of some atoms of one element, (rows, n): `last` are theirs of the last layer."""
        n, start = len(self.direct), self._hidden
        phi = np.empty((start + len(last), len(atoms)), last.dtype)
        if n:
            phi[:n] = q[np.ix_(self.direct, atoms)]
        if self.constant:
            phi[n] = scale
        np.multiply(last, scale, out=phi[start:])
        return phi

    def scaled_rows(self, model, w):
        """What multiplies the last layer of each element's network, times its scale.

        Parameters
        ----------
        w : (n, m) float64 array

        Returns
        -------
        (n_species, m, n_last) array of the model's dtype, on the host; elements of networks of one width
        """
        rows = np.stack([w[place[self._hidden :]].T for place in self.places])
        return np.ascontiguousarray(rows.astype(model.scale.dtype) * model.scale[:, None, None])

    def by_frame(self, phi, pairs, species):
        """Sums of phi over the atoms of each frame, float64 (n_frames, n)."""
        xp = namespace(phi)
        out = xp.zeros((pairs.n_frames, self.n))
        for z, place in enumerate(self.places):
            own = phi[: len(place)]
            own = xp.where(species == z, own, 0) if len(self.places) > 1 else own
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
        xp, device = namespace(q), "cpu" if isinstance(q, np.ndarray) else "cuda"
        rows = [to_device(w[place].astype(q.dtype), device) for place in self.places]
        dq, scale, several = xp.empty(q.shape, q.dtype), model.scale[species], len(model.networks) > 1
        if not any(head.n_last for head in model.networks):
            dq[...] = 0

        def task(k, _):
            z, columns, saved, *_ = chunks[k]
            head = model.networks[z]
            if head.n_last:
                w = rows[z][self._hidden :, None]
                if several:
                    dq[:, columns] = head.last_pullback(saved, w * model.scale[z])
                else:
                    dq[:, columns] = head.last_pullback(saved, w) * scale[columns]
            return []

        over_chunks(task, chunks, q)
        if len(self.direct):
            direct = xp.stack([row[: len(self.direct)] for row in rows])
            dq[xp.asarray(self.direct)] += xp.take(direct.T, species, axis=1)
        return dq
