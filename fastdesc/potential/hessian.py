"""Second derivatives of the energy with respect to positions, exact, by the evaluation in dual numbers.

    H v = D_v dE/dx,        (dE/dx)_i = -sum over p in row i of (dr_p - dr_mirror(p))                           (1)

Along a direction v, pairs have the tangents t_p = v_j - v_i. One forward pass on duals gives the features and their
tangents; the heads give dE/dq and its tangent,

    D_v (dE/dq) = d/dq [ scale · (N'(q) tq) ]                                                                  (2)

and the pullback on duals has D_v dr as its tangent, whose forces are -H v. No differences, no step to choose.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, padded, resolve_device, to_device, to_host
from fastdesc.backend.memory import check_memory
from fastdesc.checks import brief
from fastdesc.errors import InputError
from fastdesc.geometry import forces, pair_tangents, pair_vectors, virials
from fastdesc.pairs import find_on
from fastdesc.potential.evaluation import energies_and_gradient, over_atoms
from fastdesc.structures import Structures


class HessianProducts:
    """Products of the Hessian of one structure with directions; what all of them share is made once.

    Parameters
    ----------
    potential : Potential
    atoms : ase.Atoms
    device : {"cpu", "cuda", "auto"}

    Raises
    ------
    InputError
        For what is no potential, more or less than one structure, and whatever makes it unusable.
    """

    def __init__(self, potential, atoms, device="cpu"):
        if not hasattr(potential, "model"):
            raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
        structures, device = Structures.from_ase(atoms), resolve_device(device)
        if structures.n_frames != 1:
            raise InputError(f"{structures.n_frames} frames came; a Hessian is of one ase.Atoms")
        self.model = potential.model("float64", device)
        species = structures.species(potential.descriptor.species_numbers)
        structures, self.pairs = find_on(structures, potential.descriptor.cutoff, device)
        if device == "cuda":
            self.pairs.note_species(species, len(self.model.scale))
        self.species = to_device(species, device)
        self.rij = pair_vectors(structures.positions, structures.cells, self.pairs, np.float64)
        self.tape = energies_and_gradient(self.model, self.rij, self.pairs, self.species, keep=True)[2]

    def __call__(self, direction):
        """H v.

        Parameters
        ----------
        direction : (n_atoms, 3) array
            v, Å or without a unit.

        Returns
        -------
        (n_atoms, 3) float64 array
            eV/Å² times the unit of v.

        Raises
        ------
        InputError
            For a direction that is not finite numbers of this shape.
        """
        _, drij = self._duals(self._checked(direction), None)
        return -to_host(forces(namespace(self.rij).ascontiguousarray(drij[1]), self.pairs))

    def strained(self, direction, strain):
        """Derivatives of forces and virial where atoms move along a direction and the cell is strained.

        Parameters
        ----------
        direction : (n_atoms, 3) array, Å
            Beyond the strain, which all positions follow.
        strain : (3, 3) array

        Returns
        -------
        forces : (n_atoms, 3) float64, eV/Å
        virial : (3, 3) float64, eV
            Of sum_p r_p (x) dE/dr_p.
        """
        xp = namespace(self.rij)
        trij, drij = self._duals(self._checked(direction), xp.asarray(np.asarray(strain, np.float64)[None]))
        value, tangent = (xp.ascontiguousarray(x) for x in drij)
        virial = virials(trij, value, self.pairs) + virials(self.rij, tangent, self.pairs)
        return to_host(forces(tangent, self.pairs)), to_host(virial)[0]

    def _duals(self, v, strain):
        """Tangents of the pair vectors, and dE/dr_p with its tangent, (2, 3, n_pairs)."""
        model, pairs, xp = self.model, self.pairs, namespace(self.rij)
        trij = pair_tangents(xp.asarray(v), strain, self.rij, pairs)
        duals = xp.stack([self.rij, trij])
        q, saved = model.descriptor.forward(duals, pairs, self.species, model.theta)
        dq = padded(q.shape, q.dtype, q)
        dq[0] = self.tape.dq
        self._head_tangents(q[1], dq[1])
        drij = model.descriptor.pullback(duals, pairs, self.species, model.theta, saved, dq)
        if model.repulsion is not None:
            given = pairs, self.species
            drij[0] += model.repulsion.gradient(duals[0], *given)
            drij[1] += model.repulsion.curvature(duals[0], duals[1], *given)
        return trij, drij

    def _checked(self, direction):
        allowed = f"give finite numbers of shape ({self.pairs.n_atoms}, 3)"
        try:
            v = np.asarray(direction)
            v = v.astype(np.float64) if v.dtype.kind in "iufO" else None
        except (ValueError, TypeError, OverflowError):    # rows of different lengths, objects, huge integers
            v = None
        if v is None:
            raise InputError(f"a direction came as {brief(direction)}; {allowed}")
        if v.shape != (self.pairs.n_atoms, 3) or not np.isfinite(v).all():
            raise InputError(f"a direction of shape {v.shape} came; {allowed}")
        return v

    def _head_tangents(self, tq, tdq):
        """Formula (2) into tdq; the direct term is linear and adds nothing."""
        zero = namespace(tq).zeros((1, tq.shape[1]), tq.dtype)

        def task(k, _):
            z, columns, saved, chain, _ = self.tape.chunks[k]
            head = self.model.networks[z]
            _, tsaved = head.tangent(saved, tq[:, columns])
            _, dz = head.dual_gradients(saved, tsaved, chain, zero[:, columns], 1.0)
            tdq[:, columns] = head.to_inputs(dz)

        if namespace(tq) is np:
            over_atoms(task, len(self.tape.chunks), tq, chunk=1)
        else:
            for k in range(len(self.tape.chunks)):
                task(k, k + 1)


def hessian(potential, atoms, indices=None, device="cpu"):
    """The Hessian, column by column.

    Parameters
    ----------
    potential : Potential
    atoms : ase.Atoms
    indices : sequence of int, optional
        Atoms whose rows and columns are asked for; all by default.
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    (n, 3, n, 3) float64 array, eV/Å²
        d²E/dx_ia dx_jb, n the number of atoms asked for; periodic images of an atom move with it.

    Raises
    ------
    InputError
        For numbers that no atom has, more than memory holds, and as HessianProducts.
    """
    product = HessianProducts(potential, atoms, device)
    n_atoms = product.pairs.n_atoms
    own = np.arange(n_atoms) if indices is None else atoms_asked_for(indices, n_atoms)
    check_memory(72.0 * len(own) ** 2, f"second derivatives of {len(own)} atoms", "name fewer atoms by indices")
    out, v = np.empty((len(own), 3, len(own), 3)), np.zeros((n_atoms, 3))
    for k, j in enumerate(own):
        for b in range(3):
            v[j, b] = 1.0
            out[:, :, k, b] = product(v)[own]
            v[j, b] = 0.0
    return out


def atoms_asked_for(indices, n_atoms):
    try:
        own = np.atleast_1d(np.asarray(indices))
    except ValueError:    # rows of different lengths
        own = np.zeros(0)
    if own.ndim != 1 or not len(own) or own.dtype.kind not in "iu" or own.min() < 0 or own.max() >= n_atoms:
        raise InputError(f"indices came as {brief(indices)}; give numbers of atoms from 0 to {n_atoms - 1}")
    return own
