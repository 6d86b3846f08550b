"""Embedded density (EANN) and its recursion (REANN): squared densities of orbitals that sit on the neighbours.

Zhang, Hu, Jiang, J. Phys. Chem. Lett. 10, 4962 (2019); Zhang, Xia, Jiang, Phys. Rev. Lett. 127, 156002 (2021).

    A_i[k, c] = sum_j c_jk phi_kc(r_ij)                              density.py                                (1)
    q_i = squares of A_i, contracted                                 contraction.py                            (2)
    c_i^(0) = coefficients_{Z_i},   c_i^(t) = c_i^(t-1) + N_t(q_i^(t-1)),   t = 1..iterations                  (3)

(1) and (2) are made once for each c^(t); the features are the last q. Backwards, with dc^(t) and dq^(t) cotangents,

    dA^(t) from dq^(t) by (2);   dc^(t) = dc^(t+1) + (what (1) gives for A^(t));   dq^(t-1) from dc^(t) by N_t (4)

and the pairs are visited once more for the cotangents of all A^(t) together.
"""

from collections import namedtuple
from collections.abc import Sequence
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
from fastdesc.descriptors.embedded_density.initial import calibrated_parameters, initial_parameters, network_labels
from fastdesc.descriptors.embedded_density.parameters import (
    EXPONENTS,
    columns,
    exponents,
    exponents_pullback,
    radial_parameters,
)
from fastdesc.descriptors.embedded_density.squares import Hyper, Squares
from fastdesc.descriptors.embedded_density.training_hints import EmbeddedDensityHints
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.descriptors.recursion.atoms import densities_pullback, given, nothing, through, update
from fastdesc.descriptors.recursion.jacobian import receptive_field_jacobian
from fastdesc.descriptors.recursion.networks import Networks
from fastdesc.errors import InputError
from fastdesc.networks.form import checked
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.types import Activation, Array, Arrays, DType, Species

CONTRACTIONS = ("hyper", "hyper_by_iteration", "none")
SIGNS = ("positive", "any")
NETWORKS = ("per_species", "shared")
MOST_RADIAL, MOST_ITERATIONS = 1000, 100
N_MOMENTS = (1, 4, 10, 20)
"""Monomials up to each degree."""
BLOCKED = "hyper/blocked"
"""Further name of prepared parameters: see EmbeddedDensity.prepared."""
Saved = namedtuple("Saved", "densities c")
Parts = namedtuple("Parts", "kernels radial contractions networks")


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
        count("iterations", iterations, 0, MOST_ITERATIONS)
        one_of("contraction", contraction, CONTRACTIONS)
        one_of("normalized", normalized, (True, False))
        one_of("exponents", exponents, SIGNS)
        one_of("networks", networks, NETWORKS)
        if isinstance(hidden, str) or not hasattr(hidden, "__iter__"):
            raise InputError(f"hidden came as {hidden!r}; it must be a sequence of widths such as (64, 64)")
        for width in hidden:
            count("a width in hidden", width, most=MOST)
        self.form, self.blocks, self.layer_norm = checked(hidden, activation, blocks, layer_norm), blocks, layer_norm
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
        q = self._parts(rij, pairs, species, theta).contractions[0].features(first)
        self.parameters = calibrated_parameters(self, to_host(q).T.astype(np.float64))

    # ------------------------------------------------------------------------------------------------- maps

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Saved]:
        """Return q ((2,) n_features, n_atoms) and Saved: densities and coefficients of all iterations."""
        xp, planes, n, T = namespace(rij), rij.shape[:-2], pairs.n_atoms, self.iterations
        kernels, radial, contractions, networks = self._parts(rij, pairs, species, theta)
        centres = species[:n]    # behind them, of a list with ghosts, are the ghosts
        densities = padded((*planes, 1 + T, self.n_radial, self.n_moments, n), rij.dtype, rij)
        c = xp.zeros((*planes, T, pairs.whole.n_atoms, columns(self.n_radial)), rij.dtype)
        own = None
        kernels.ed_density(*radial, densities[..., 0, :, :, :])
        for t in range(T):
            more = update(contractions[t], networks[t], densities[..., t, :, :, :], (centres, pairs.columns))
            own = (radial[2][..., centres, :] if own is None else own) + xp.swapaxes(more, -1, -2)
            c[..., t, :n, : self.n_radial] = own
            pairs.whole.exchange.forward(c[..., t, :, : self.n_radial])
            kernels.ed_density_again(*radial[:2], c, t, densities[..., 1 + t, :, :, :])
        return contractions[T].features(densities[..., T, :, :, :]), Saved(densities, c)

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Return drij ((2,) 3, n_pairs).

        Pairs (i, j, S) and (j, i, -S) must have opposite vectors, as `pair_vectors` makes them, and opposite tangents.
        """
        parts = self._parts(rij, pairs, species, theta)
        elements = species[: pairs.n_atoms], pairs.columns
        again = self.kernels(rij, pairs.whole, species)
        ddensities, _, _ = self._sweep(parts, again, pairs, elements, saved, dq, Networks.pullback, False, {})
        drij = padded(rij.shape, rij.dtype, rij)
        parts.kernels.ed_density_pullback(*parts.radial, saved.c, ddensities, drij)
        return drij

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Return a dict like `parameters`, float64, with a leading axis of two for duals."""
        xp, parts = namespace(rij), self._parts(rij, pairs, species, theta)
        dnetworks: Arrays = {}
        kernels, radial, contractions, networks = parts
        for of_iteration in networks:
            dnetworks |= of_iteration.zeros(dual=rij.ndim == 3)
        centres, again = species[: pairs.n_atoms], self.kernels(rij, pairs.whole, species)
        ddensities, dc, products = self._sweep(
            parts, again, pairs, (centres, pairs.columns), saved, dq, Networks.backward, True, dnetworks
        )
        sums = kernels.ed_parameters_pullback(*radial, saved.c, ddensities)
        dtheta = {**exponents_pullback(self.exponents, sums[0], radial[0]), "r_s": sums[1], "coefficients": sums[2]}
        if dc is not None:  # every c^(t) begins with the element's coefficients
            for z in range(len(self.species_numbers)):
                dtheta["coefficients"][..., z, :] += xp.where(centres == z, dc, 0).sum(axis=-1, dtype=np.float64)
        if self.contraction != "none":
            dhyper = [c.cotangent(sums) for c, sums in zip(contractions, products, strict=False)]
            dtheta["hyper"] = xp.stack(dhyper, axis=-4) if self.hyper_by_iteration else dhyper[0]
        return {**dtheta, **dnetworks}

    def _sweep(self, parts, whole, pairs, elements, saved, dq, back, summed, dnetworks):
        """Formula (4), from the last iteration to the first.

        What ghosts find for coefficients, with the kernels `whole` over all rows, is added to their owners'.
        `elements` and `back` are what fastdesc/descriptors/recursion/atoms.py takes; what `back` finds of the networks' parameters is added to
        `dnetworks`. `summed` tells whether the products that cotangents of `hyper` are made of are.
        Returns the cotangents of all densities, of the coefficients after the element's, and the sums of the products,
        one for each `hyper`.
        """
        kernels, radial, contractions, networks = parts
        xp, T = namespace(dq), self.iterations
        *planes, _, n_radial, n_moments, n = saved.densities.shape
        ddensities = padded(saved.densities.shape, dq.dtype, dq)
        if T > 0:  # The last row is only read past, by loads that are wider than a row.
            n_all = pairs.whole.n_atoms    # rows of ghosts stay zero: their cotangents are another's work
            rows = xp.zeros((*planes, n_all + 1, 20 if n_moments > 10 else 10, columns(n_radial)), dq.dtype)
        cotangents, totals, dc = given(dq), [0.0] * (1 + T if self.hyper_by_iteration else 1), None
        for t in range(T, -1, -1):
            density, ddensity = saved.densities[..., t, :, :, :], ddensities[..., t, :, :, :]
            contraction, own = contractions[t], t if self.hyper_by_iteration else 0
            products = contraction.products if summed else nothing
            for found, dlayers in densities_pullback(contraction, cotangents, products, density, ddensity):
                totals[own] = totals[own] + found
                if dlayers is not None:
                    networks[t].add(dnetworks, dlayers)
            if t > 0:
                kernels.ed_rows(ddensity, rows)
                more = padded((*planes, n_radial, n_all), dq.dtype, dq)
                whole.ed_coefficients_pullback(*radial[:2], rows, more)
                pairs.whole.exchange.reverse(xp.swapaxes(more, -1, -2))
                more = more[..., :n]
                if dc is not None:
                    more += dc
                dc = more
                cotangents = through(networks[t - 1], back, contractions[t - 1], elements, dc)
        return ddensities, dc, totals

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with the exponents of the radial functions and `hyper` in blocks."""
        more = {EXPONENTS: exponents(theta["alpha"])} if self.exponents == "positive" else {}
        if self.contraction != "none":
            more[BLOCKED] = blocked(theta["hyper"])
        return {**theta, **more}

    def _parts(self, rij, pairs, species, theta):
        kernels = self.kernels(rij, pairs, species)
        labels, n_species = network_labels(self), len(self.species_numbers)
        networks = [Networks(theta, t, labels, self.form, n_species) for t in range(1, 1 + self.iterations)]
        return Parts(kernels, radial_parameters(theta, rij), self._contractions(kernels, theta), networks)

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
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures
    ) -> Jacobian:
        if self.iterations == 0:
            return super().jacobian(rij, pairs, species, theta, saved, structures)
        return receptive_field_jacobian(self, rij, pairs, species, theta, structures)
