"""Slow and obvious Gaussian moments, kernel by kernel, in NumPy, for tests/kernels/test_cuda_gaussian_moments.py.

Formulas are analytic in all arrays, so that complex steps differentiate them exactly.
"""

from functools import partial
from itertools import combinations_with_replacement
from types import SimpleNamespace

import numpy as np

CUTOFF, R_MIN = 4.0, 0.5
MONOMIALS = [c for rank in range(4) for c in combinations_with_replacement(range(3), rank)]


def basis(d, kind, n_basis):
    """f_c g_b / sqrt(N) and its derivative: (n_basis, n_pairs) each."""
    inside, x, b = d.real < CUTOFF, np.pi * d / CUTOFF, np.arange(n_basis)[:, None]
    fc = np.where(inside, (1 + np.cos(x)) / 2, 0)
    dfc = np.where(inside, -np.sin(x) / 2 * np.pi / CUTOFF, 0)
    if kind == "gaussian":
        a = n_basis**2 / CUTOFF**2
        y = d - R_MIN - b * (CUTOFF - R_MIN) / n_basis
        g = (2 * a / np.pi) ** 0.25 * np.exp(-a * y**2)
        dg = -2 * a * y * g
    else:
        height = (-1.0) ** b * np.sqrt(2) * np.pi * CUTOFF**-1.5
        g = height * sum(np.sin(k * x) / (k * x) for k in (b + 1, b + 2))
        dg = height * sum((np.cos(k * x) - np.sin(k * x) / (k * x)) / d for k in (b + 1, b + 2))
    return fc * g / np.sqrt(n_basis), (dfc * g + fc * dg) / np.sqrt(n_basis)


def pairwise(case, rij):
    """Basis functions (n_basis, n_pairs) and monomials (n_moments, n_pairs) of all pairs."""
    d = np.sqrt((rij**2).sum(0))
    u = rij / d
    m = np.array([np.prod([u[k] for k in c], axis=0) if c else np.ones_like(d) for c in MONOMIALS])
    return basis(d, case.family.basis, case.family.n_basis)[0], m[: case.family.n_moments]


def moments(case, rij, beta):
    g, m = pairwise(case, rij)
    R = np.einsum("psb,bp->sp", beta[case.zi, case.zj], g)
    M = np.zeros((R.shape[0], m.shape[0], case.pairs.n_atoms), np.result_type(rij, beta))
    np.add.at(M.transpose(2, 0, 1), case.i, np.einsum("sp,cp->psc", R, m))
    return M


EINSUMS = ["rn->rn", "rin,sin->rsn", "rijn,sijn->rsn", "rijkn,sijkn->rsn", "rijn,sikn,tjkn->rstn",
           "rin,sjn,tijn->rstn", "rijkn,sijln,tkln->rstn", "rijkn,sijn,tkn->rstn"]  # fmt: skip
RANKS = [(0,), (1, 1), (2, 2), (3, 3), (2, 2, 2), (1, 1, 2), (3, 3, 2), (3, 2, 1)]


def is_feature(contraction, t):
    if contraction in (2, 3, 4, 6, 7):
        return t[0] <= t[1]
    return contraction != 5 or t[0] <= t[1] <= t[2]


def features(case, M):
    """Invariants from full tensors, all indices summed: (n_features, n_atoms)."""
    n, _, n_atoms = M.shape
    tensors = {}
    for rank in range(case.family.max_rank + 1):
        tensors[rank] = np.zeros((n, *(3,) * rank, n_atoms), M.dtype)
        for index in np.ndindex(*(3,) * rank):
            tensors[rank][(slice(None), *index)] = M[:, MONOMIALS.index(tuple(sorted(index)))]
    rows = []
    for contraction, (subscripts, ranks) in enumerate(zip(EINSUMS, RANKS, strict=True), 1):
        if contraction in case.contractions:
            q = np.einsum(subscripts, *[tensors[r] for r in ranks], optimize=True)
            rows += [q[t] for t in np.ndindex(q.shape[:-1]) if is_feature(contraction, t)]
    return np.array(rows)


def step(function, *tangents):
    """Derivative of function(*arguments) along tangents (argument, direction), by complex step."""
    return function(*[x if t is None else x + 1e-30j * t for x, t in tangents]).imag / 1e-30


def pull_features(case, M, dq):
    """Cotangent of the moments; atoms are independent, so one complex step serves entry (r, c) of all of them."""
    dM = np.zeros_like(M)
    for r, c in np.ndindex(M.shape[:2]):
        unit = np.zeros_like(M)
        unit[r, c] = 1
        dM[r, c] = (dq * step(partial(features, case), (M, unit))).sum(0)
    return dM


def pull_moments(case, rij, beta, dM):
    """Cotangent of the pair vectors, term by term: radial slopes and derivatives of the monomials."""
    d = np.sqrt((rij**2).sum(0))
    u = rij / d
    R, dR = (
        np.einsum("psb,bp->sp", beta[case.zi, case.zj], g) for g in basis(d, case.family.basis, case.family.n_basis)
    )
    drij = 0
    for c, factors in enumerate(MONOMIALS[: case.family.n_moments]):
        value, slope = ((f * dM[:, c, case.i]).sum(0) for f in (R, dR))
        m = np.prod(u[list(factors)], axis=0)
        drij = drij + slope * m * u
        for place, k in enumerate(factors):
            others = np.prod(u[[*factors[:place], *factors[place + 1 :]]], axis=0)
            drij = drij + value * others * (np.eye(3)[:, k : k + 1] - u[k] * u) / d
    return drij


def pull_moments_by_steps(case, rij, beta, dM):
    """The same, by complex steps: pairs are independent."""

    def energies(rij):
        g, m = pairwise(case, rij)
        R = np.einsum("psb,bp->sp", beta[case.zi, case.zj], g)
        return np.einsum("sp,cp,scp->p", R, m, dM[:, :, case.i])

    return np.array([step(energies, (rij, np.eye(3)[:, k : k + 1])) for k in range(3)])


def pull_beta(case, rij, dM):
    g, m = pairwise(case, rij)
    each = np.einsum("bp,cp,scp->psb", g, m, dM[:, :, case.i])
    dbeta = np.zeros((case.n_species, case.n_species, *each.shape[1:]), each.dtype)
    np.add.at(dbeta, (case.zi, case.zj), each)
    return dbeta


# ------------------------------------------------------------------------------------------------------------- cases


class Case:
    """Rows of 0, 1, 32, 33, 70 and a few pairs; some beyond the cutoff, one row entirely; random directions."""

    def __init__(self, n_radial, n_basis, max_rank, kind, n_species, contractions=range(1, 9)):
        rng = np.random.default_rng(n_radial)
        lengths = [5, 0, 33, 1, 7, 32, 3, 0, 70, 4, 2]
        n_pairs, n_atoms = sum(lengths), len(lengths)
        self.i = np.repeat(np.arange(n_atoms), lengths)
        row = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        j = rng.integers(0, n_atoms, n_pairs).astype(np.int32)
        self.pairs = SimpleNamespace(row=row, j=j, n_atoms=n_atoms)
        self.species = rng.integers(0, n_species, n_atoms).astype(np.int32)
        self.zi, self.zj, self.n_species = self.species[self.i], self.species[j], n_species
        direction = rng.normal(size=(3, n_pairs))
        d = rng.uniform(0.9, 1.2 * CUTOFF, n_pairs)
        d[self.i == 9] = 1.1 * CUTOFF
        self.rij = direction / np.sqrt((direction**2).sum(0)) * d
        self.rij[:, :2] = [[CUTOFF, 0], [0, 0], [0, np.nextafter(CUTOFF, 9)]]
        self.contractions = [k for k in contractions if max(RANKS[k - 1]) <= max_rank]
        n_moments = (1, 4, 10, 20)[max_rank]
        self.family = SimpleNamespace(
            species_numbers=range(n_species), n_radial=n_radial, n_basis=n_basis, n_moments=n_moments, basis=kind,
            max_rank=max_rank, cutoff=CUTOFF, offsets=np.full(8, -1),
        )  # fmt: skip
        self.beta = rng.uniform(-1, 1, (n_species, n_species, n_radial, n_basis))
        at = 0
        for k in self.contractions:
            self.family.offsets[k - 1] = at
            at += sum(is_feature(k, t) for t in np.ndindex(*(n_radial,) * len(RANKS[k - 1])))
        self.family.n_features = at
        self.dM = rng.normal(size=(n_radial, n_moments, n_atoms))
        self.dq = rng.normal(size=(at, n_atoms))
        shapes = [self.rij.shape, self.beta.shape, self.dM.shape, self.dM.shape, self.dq.shape]
        self.trij, self.tbeta, self.tM, self.tdM, self.tdq = (rng.normal(size=s) for s in shapes)

    @property
    def wanted(self):
        """{kernel: (value, tangent)}; every kernel gets exact input, not what another one made."""
        M, along = moments(self, self.rij, self.beta), partial(step)
        t, c = (self.rij, self.trij), (self.beta, self.tbeta)
        twice = pull_features(self, M + self.tM, self.dq) - pull_features(self, M - self.tM, self.dq)
        return {
            "gm_moments": (M, along(partial(moments, self), t, c)),
            "gm_contract": (features(self, M), along(partial(features, self), (M, self.tM))),
            # quadratic in M, so that a central difference of any step is exact; linear in dq
            "gm_contract_pullback": (
                pull_features(self, M, self.dq),
                twice / 2 + pull_features(self, M, self.tdq),
            ),
            "gm_moments_pullback": (
                pull_moments_by_steps(self, self.rij, self.beta, self.dM),
                along(partial(pull_moments, self), t, c, (self.dM, self.tdM)),
            ),
            "gm_beta_pullback": (
                pull_beta(self, self.rij, self.dM),
                along(partial(pull_beta, self), t, (self.dM, self.tdM)),
            ),
        }

    def arguments(self, dtype, dual):
        """{kernel: (inputs, shape of output)}, plain or dual."""
        M = moments(self, self.rij, self.beta)

        def cast(value, tangent):
            return np.stack([value, tangent]).astype(dtype) if dual else value.astype(dtype)

        beta, dM = cast(self.beta, self.tbeta), cast(self.dM, self.tdM)
        M, dq = cast(M, self.tM), cast(self.dq, self.tdq)
        return cast(self.rij, self.trij), {
            "gm_moments": ((beta,), M.shape),
            "gm_contract": ((M,), dq.shape),
            "gm_contract_pullback": ((M, dq), M.shape),
            "gm_moments_pullback": ((beta, dM), (*dM.shape[:-3], *self.rij.shape)),
            "gm_beta_pullback": ((dM,), None),
        }
