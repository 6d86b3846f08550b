"""Embedded density (EANN) and its recursion (REANN): squared densities of orbitals that sit on the neighbours.

Zhang, Hu, Jiang, J. Phys. Chem. Lett. 10, 4962 (2019); Zhang, Xia, Jiang, Phys. Rev. Lett. 127, 156002 (2021).

    A_i[k, c] = sum_j c_jk phi_kc(r_ij)                              density.py                                (1)
    q_i = squares of A_i, contracted                                 contraction.py                            (2)
    c_i^(0) = coefficients_{Z_i},   c_i^(t) = c_i^(t-1) + N_t(q_i^(t-1)),   t = 1..iterations                  (3)

(1) and (2) are made once for each c^(t); the features are the last q. The way back is that of
fastdesc/descriptors/recursion/passes.py.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from ase import Atoms

from fastdesc.backend.arrays import namespace, padded, to_host
from fastdesc.backend.cuda import active_for
from fastdesc.checks import MOST, atomic_numbers, count, one_of
from fastdesc.checks import cutoff as check_cutoff
from fastdesc.checks import seed as check_seed
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.embedded_density import cpu, cuda
from fastdesc.descriptors.embedded_density.contraction import blocked
from fastdesc.descriptors.embedded_density.initial import calibrated_parameters, initial_parameters
from fastdesc.descriptors.embedded_density.parameters import (
    EXPONENTS,
    exponents,
    exponents_pullback,
    radial_parameters,
)
from fastdesc.descriptors.embedded_density.squares import Hyper, Squares
from fastdesc.descriptors.embedded_density.training_hints import EmbeddedDensityHints
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.descriptors.recursion.initial import form_of, of_theta
from fastdesc.descriptors.recursion.jacobian import receptive_field_jacobian
from fastdesc.descriptors.recursion.networks import Networks
from fastdesc.descriptors.recursion.passes import Steps, columns
from fastdesc.errors import InputError
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.types import Activation, Array, Arrays, DType, Species

CONTRACTIONS = ("hyper", "hyper_by_iteration", "none")
SIGNS = ("positive", "any")
MOST_RADIAL = 1000
N_MOMENTS = (1, 4, 10, 20)
"""Monomials up to each degree."""
BLOCKED = "hyper/blocked"
"""Further name of prepared parameters: see EmbeddedDensity.prepared."""
Saved = namedtuple("Saved", "densities c")


class EmbeddedDensity(Descriptor):
    """Embedded-density descriptor, and its recursion over neighbours of neighbours.

    Parameters
    ----------
    species : list of str or int
        Elements, as symbols or atomic numbers.
    cutoff : float
        Å. Features see as far as (iterations + 1) cutoffs.
    n_radial : int
        Radial functions.
    l_max : {0, 1, 2, 3}
        Highest degree of the orbitals.
    iterations : int
        0 is EANN: features of three bodies. Each iteration updates the orbital coefficients of every atom by a small
        network of its own features.
    contraction : {"hyper", "hyper_by_iteration", "none"}
        "hyper" mixes radial functions by trainable weights before squaring, "hyper_by_iteration" by other weights in
        each iteration; "none" squares each by itself, which gives n_radial features for each degree and needs no
        training.
    n_features : int, optional
        Without "none"; n_radial (n_radial + 1) / 2 (l_max + 1) by default.
    normalized : bool
        Monomials of the direction of a pair instead of its vector, as published. With the initial parameters here
        neither is better conditioned by much (vectors: by a third, for Si, Ni, water and molecules), nor learns better.
    exponents : {"positive", "any"}
        "any" lets the Gaussians of the radial functions also grow with the distance, as those of some published
        models do; the parameter is the exponent then, and not its logarithm.
    networks : {"per_species", "shared"}
        One network per element in each iteration, or one for all with a learned embedding of the element.
    hidden : sequence of int
        Widths of the networks' hidden layers.
    activation : {"silu", "tanh", "celu", "softplus", "trained_silu", "trained_isru"}
        Networks with the last two have residual blocks (fastdesc/networks/residual.py): `hidden` are then the widths
        of a block.
    blocks : int
        Residual blocks of each network, for a trained activation.
    layer_norm : bool
        Whether the layers of a block are normalised.
    seed : int
        Of the initial `hyper` and networks.

    Raises
    ------
    InputError
        For any argument out of range.

    Notes
    -----
    Parameters, by name; rows are elements of the *neighbour* in the order of `species_numbers`:

    alpha : (n_species, n_radial)
        Natural logarithm of the exponent in 1/Å², so that exponents stay positive.
        With exponents "any" instead: `exponents`, in 1/Å².
    r_s : (n_species, n_radial)
        Centres of the radial functions, Å.
    coefficients : (n_species, n_radial)
        Orbital coefficients before the first iteration.
    hyper : (l_max + 1, n_radial, n_features)
        With contraction "hyper_by_iteration" one for each iteration, (iterations + 1, l_max + 1, ..).
    network.<t>.<element>.<layer>.weight : (n_out, n_in), and .bias : (n_out,)
        Networks of iteration t = 1.., of an element's symbol or "shared"; those of residual blocks have further
        layers and kinds.
    """

    family = "embedded_density"

    def __init__(
        self,
        *,
        species: Species,
        cutoff: float = 6.0,
        n_radial: int = 8,
        l_max: int = 2,
        iterations: int = 0,
        contraction: Literal["hyper", "hyper_by_iteration", "none"] = "hyper",
        n_features: int | None = None,
        normalized: bool = False,
        exponents: Literal["positive", "any"] = "positive",
        networks: Literal["per_species", "shared"] = "per_species",
        hidden: Sequence[int] = (64, 64),
        activation: Activation = "silu",
        blocks: int = 0,
        layer_norm: bool = False,
        seed: int = 0,
    ) -> None:
        self.species, self.cutoff, self.n_radial, self.l_max = species, cutoff, n_radial, l_max
        self.iterations, self.contraction, self.normalized = iterations, contraction, normalized
        self.exponents, self.hyper_by_iteration = exponents, contraction == "hyper_by_iteration"
        self.recordable = iterations == 0    # networks between densities are not calls of kernels
        self.own_row = iterations == 0
        self.networks, self.hidden, self.activation, self.seed = networks, hidden, activation, seed
        self.species_numbers = atomic_numbers(species)
        check_cutoff("cutoff", cutoff)
        count("n_radial", n_radial, most=MOST_RADIAL)
        one_of("l_max", l_max, range(4))
        one_of("contraction", contraction, CONTRACTIONS)
        one_of("normalized", normalized, (True, False))
        one_of("exponents", exponents, SIGNS)
        self.form = form_of(iterations, networks, hidden, activation, blocks, layer_norm)
        self.blocks, self.layer_norm = blocks, layer_norm
        check_seed(seed)
        self._asked_features = n_features
        self.n_features = self._number_of_features(n_features)
        self.n_moments = N_MOMENTS[l_max]
        self.parameters = initial_parameters(self)

    def _number_of_features(self, asked):
        if self.contraction == "none":
            n = (self.l_max + 1) * self.n_radial
            if asked not in (None, n):
                raise InputError(f"n_features came as {asked!r}; contraction 'none' gives (l_max+1) n_radial = {n}")
            return n
        if asked is None:
            return self.n_radial * (self.n_radial + 1) // 2 * (self.l_max + 1)
        count("n_features", asked, most=MOST)
        return int(asked)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor arguments by name, as scikit-learn's estimators do."""
        return {**super().get_params(deep), "n_features": self._asked_features}

    def feature_names_out(self) -> list[str]:
        """Return names: 'density_17', or with contraction 'none' 'density_l1_k3' by degree and radial function."""
        if self.contraction == "none":
            return [f"density_l{l}_k{k}" for l in range(self.l_max + 1) for k in range(self.n_radial)]
        return [f"density_{m}" for m in range(self.n_features)]

    def calibrate(self, frames: Atoms | Sequence[Atoms] | Structures) -> Self:
        """Fit the initial parameters to the statistics of some structures; for before training, not after.

        Scales `hyper` so that features without iterations have a mean square of one, and the first layer of every
        network so that it sees zero mean and unit variance. `fastdesc.train` does so by itself on its training frames.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or Structures

        Returns
        -------
        self
        """
        self.calibrate_to(*self.prepare(frames), self.theta(np.float64))
        return self

    @property
    def training_hints(self) -> EmbeddedDensityHints:
        """What training asks of densities: networks learn as such, and initial features are scaled."""
        return EmbeddedDensityHints(self)

    def calibrate_to(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> None:
        """`calibrate` to a batch of pairs."""
        first = self.forward(rij, pairs, species, theta)[1].densities[0]
        q = self._parts(rij, pairs, species, theta)[2].contractions[0].features(first)
        self.parameters = calibrated_parameters(self, to_host(q).T.astype(np.float64))

    # ------------------------------------------------------------------------------------------------- maps

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Saved]:
        """Return q ((2,) n_features, n_atoms) and Saved: densities and coefficients of all iterations."""
        xp, planes, n, T = namespace(rij), rij.shape[:-2], pairs.n_atoms, self.iterations
        kernels, radial, steps = self._parts(rij, pairs, species, theta)
        densities = padded((*planes, 1 + T, self.n_radial, self.n_moments, n), rij.dtype, rij)
        c = xp.zeros((*planes, T, pairs.whole.n_atoms, columns(self.n_radial)), rij.dtype)
        kernels.ed_density(*radial, densities[..., 0, :, :, :])
        if T > 0:
            first = radial[2][..., steps.elements[0], :]
            steps.forward(densities, c, first, partial(kernels.ed_density_again, *radial[:2], c))
        return steps.contractions[T].features(densities[..., T, :, :, :]), Saved(densities, c)

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Return drij ((2,) 3, n_pairs).

        Pairs (i, j, S) and (j, i, -S) must have opposite vectors, as `pair_vectors` makes them, and opposite tangents.
        """
        kernels, radial, steps = self._parts(rij, pairs, species, theta)
        if self.iterations == 0:
            ddensities = padded(saved.densities.shape, dq.dtype, dq)
            steps.contractions[0].pullback(saved.densities[..., 0, :, :, :], dq, ddensities[..., 0, :, :, :])
        else:
            to_coefficients = self._to_coefficients(rij, pairs, species, kernels, radial)
            ddensities, _ = steps.backward(saved.densities, dq, Networks.pullback, to_coefficients)
        drij = padded(rij.shape, rij.dtype, rij)
        kernels.ed_density_pullback(*radial, saved.c, ddensities, drij)
        return drij

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Return a dict like `parameters`, float64, with a leading axis of two for duals."""
        xp, (kernels, radial, steps) = namespace(rij), self._parts(rij, pairs, species, theta)
        dnetworks: Arrays = {}
        for networks in steps.networks:
            dnetworks |= networks.zeros(dual=rij.ndim == 3)
        centres, to_coefficients = steps.elements[0], self._to_coefficients(rij, pairs, species, kernels, radial)
        totals = [0.0] * (1 + self.iterations if self.hyper_by_iteration else 1)
        ddensities, dc = steps.backward(saved.densities, dq, Networks.backward, to_coefficients, totals, dnetworks)
        sums = kernels.ed_parameters_pullback(*radial, saved.c, ddensities)
        dtheta = {**exponents_pullback(self.exponents, sums[0], radial[0]), "r_s": sums[1], "coefficients": sums[2]}
        if dc is not None:  # every c^(t) begins with the element's coefficients
            for z in range(len(self.species_numbers)):
                dtheta["coefficients"][..., z, :] += xp.where(centres == z, dc, 0).sum(axis=-1, dtype=np.float64)
        if self.contraction != "none":
            dhyper = [c.cotangent(sums) for c, sums in zip(steps.contractions, totals, strict=False)]
            dtheta["hyper"] = xp.stack(dhyper, axis=-4) if self.hyper_by_iteration else dhyper[0]
        return {**dtheta, **dnetworks}

    def _to_coefficients(self, rij, pairs, species, kernels, radial):
        """Return what finds cotangents of coefficients, of ghosts too, from those of densities."""
        xp, planes, n_all = namespace(rij), rij.shape[:-2], pairs.whole.n_atoms
        if self.iterations == 0:
            return None
        # Rows of ghosts stay zero: their cotangents are another's work. The last row is only read past, by loads that
        # are wider than a row.
        rows = xp.zeros((*planes, n_all + 1, 20 if self.n_moments > 10 else 10, columns(self.n_radial)), rij.dtype)
        whole = self.kernels(rij, pairs.whole, species)

        def found(ddensity):
            kernels.ed_rows(ddensity, rows)
            dc = padded((*planes, self.n_radial, n_all), rij.dtype, rij)
            whole.ed_coefficients_pullback(*radial[:2], rows, dc)
            return dc

        return found

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with the exponents of the radial functions and `hyper` in blocks."""
        more = {EXPONENTS: exponents(theta["alpha"])} if self.exponents == "positive" else {}
        if self.contraction != "none":
            more[BLOCKED] = blocked(theta["hyper"])
        return {**theta, **more}

    def _parts(self, rij, pairs, species, theta):
        kernels = self.kernels(rij, pairs, species)
        elements = species[: pairs.n_atoms], pairs.columns    # behind these species, of a list with ghosts, are theirs
        steps = Steps(self._contractions(kernels, theta), of_theta(self, theta), elements, pairs.whole.exchange)
        return kernels, radial_parameters(theta, rij), steps

    def _contractions(self, kernels, theta):
        """The contraction of each iteration, and before the first."""
        T = self.iterations
        if self.contraction == "none":
            return [Squares(kernels, self.n_features)] * (1 + T)
        hyper, filled = theta["hyper"], theta.get(BLOCKED)
        if not self.hyper_by_iteration:
            return [Hyper(kernels, hyper, filled)] * (1 + T)
        own = [None if filled is None else filled[..., t, :] for t in range(1 + T)]
        return [Hyper(kernels, hyper[..., t, :, :, :], own[t]) for t in range(1 + T)]

    def kernels(self, rij: Array, pairs: Pairs, species: Array) -> "cpu.Kernels | cuda.Kernels":
        """The kernels, on the backend that rij belongs to."""
        return (cuda if active_for(rij) else cpu).Kernels(self, rij, pairs, species)

    def jacobian(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures,
        memory: Callable[..., Array] | None = None,
    ) -> Jacobian:
        if self.iterations == 0:
            return super().jacobian(rij, pairs, species, theta, saved, structures, memory)
        return receptive_field_jacobian(self, rij, pairs, species, theta, structures)
