"""The maps of every family, on every structure and backend, against its textbook: values, duals, pullbacks.

float64 throughout unless a test says otherwise.  1e-12 for identities of our own numbers, 1e-10 against the textbook.
"""

from functools import cache

import numpy as np
import pytest
from helpers.backends import runs, started
from helpers.battery import case, close, complex_step, dual, inner

from fastdesc import Pairs, geometry

IDENTITY, AGREEMENT = 1e-12, 1e-10


@pytest.fixture(params=runs())
def run(request):
    """One case on one backend."""
    backend, arguments = request.param
    with started(backend, case(*arguments)) as run:
        yield run


def test_forward_equals_textbook(run):
    q, _ = run.forward()
    assert q.dtype == np.float64
    close(q, run.case.textbook(), AGREEMENT)


def test_pushforward_equals_complex_step(run):
    c = run.case
    trij, ttheta = c.direction(c.rng)
    q, _ = run.forward(dual(c.rij, trij), dual(c.theta, ttheta))
    close(q[0], c.textbook(), AGREEMENT)
    close(q[1], c.slope((trij, ttheta)), AGREEMENT)


def test_parameters_without_tangents_may_stay_plain(run):
    c = run.case
    trij, _ = c.direction(c.rng)
    q, _ = run.forward(dual(c.rij, trij), c.theta)
    close(q[1], c.slope((trij, None)), AGREEMENT)


def test_pullback_is_the_adjoint(run):
    """<dq, J t> = <J' dq, t>, for pairs and for parameters, J t by our pushforward and by the textbook."""
    c = run.case
    rng = c.rng
    dq = rng.normal(size=c.shape)
    trij, ttheta = c.direction(rng)
    still = {k: np.zeros_like(x) for k, x in c.theta.items()}
    tq = run.forward(dual(c.rij, trij), dual(c.theta, still))[0][1]
    drij = run.pullback(dq)
    close(inner(drij, trij), inner(dq, tq), IDENTITY * (1 + abs(dq * tq).sum()))
    close(inner(drij, trij), inner(dq, c.slope((trij, None))), AGREEMENT)
    tq = run.forward(dual(c.rij, 0 * trij), dual(c.theta, ttheta))[0][1]
    dtheta = run.pullback_parameters(dq)
    close(inner(dtheta, ttheta), inner(dq, tq), IDENTITY * (1 + abs(dq * tq).sum()))
    close(inner(dtheta, ttheta), inner(dq, c.slope((0 * trij, ttheta))), AGREEMENT)


def test_dual_pullbacks_are_the_second_derivative(run):
    """With t the tangent of the pass and dq = [a, b], the tangent of J' dq is  J' b + sum_f a_f (Hessian of q_f) t:
    its product with u is <b, J u> + <a, d2q(t, u)>, and the textbook has both."""
    c = run.case
    (a, b), (trij, ttheta), (urij, utheta), of_pairs, of_parameters = textbook_second_derivatives(c)
    rij, theta = dual(c.rij, trij), dual(c.theta, ttheta)

    drij = run.pullback(dual(a, b), rij, theta)
    close(drij[0], run.pullback(a), IDENTITY * 10)
    close(inner(drij[1], urij), of_pairs, AGREEMENT)

    dtheta = run.pullback_parameters(dual(a, b), rij, theta)
    plain = run.pullback_parameters(a)
    assert plain.keys() == dtheta.keys() == c.theta.keys()
    for name, x in plain.items():
        assert x.shape == c.theta[name].shape
        close(dtheta[name][0], x, IDENTITY * 10)
    close(inner({k: x[1] for k, x in dtheta.items()}, utheta), of_parameters, AGREEMENT)


def test_dual_pullbacks_of_plain_parameters_are_those_without_tangents(run):
    """Kernels of their own, for pairs that move alone, find what the test above holds against the textbook."""
    c, rng = run.case, run.case.rng
    dq, rij = rng.normal(size=(2, *c.shape)), dual(c.rij, c.direction(rng)[0])
    still = dual(c.theta, {k: np.zeros_like(x) for k, x in c.theta.items()})
    close(run.pullback(dq, rij, c.theta), run.pullback(dq, rij, still), IDENTITY * 10)
    found, wanted = (run.pullback_parameters(dq, rij, theta) for theta in (c.theta, still))
    assert found.keys() == wanted.keys() == c.theta.keys()
    for name, x in found.items():
        close(x, wanted[name], IDENTITY * 10)


@cache
def textbook_second_derivatives(c):
    """[a, b], t and u of a case, and the textbook's products with u of pairs and of parameters: for all backends."""
    rng = c.rng
    a, b = rng.normal(size=(2, *c.shape))
    tangent, u = c.direction(rng), c.direction(rng)
    products = [
        inner(b, c.slope(along)) + inner(a, c.curvature(tangent, along)) for along in ((u[0], None), (0 * u[0], u[1]))
    ]
    return (a, b), tangent, u, *products


def test_forces_and_virial_of_a_linear_energy(run):
    """E = <w, q> has the forces -dE/dx and the virial dE/dstrain, self images included."""
    c = run.case
    w = c.rng.normal(size=c.shape)
    drij = run.pullback(w)
    forces = geometry.forces(drij, c.pairs)
    virial = geometry.virials(c.rij, drij, c.pairs)
    rho = c.rng.normal(size=forces.shape)
    strain = c.rng.normal(size=virial.shape)
    strain += strain.transpose(0, 2, 1)
    i, j, frame = c.pairs.i, c.pairs.j, c.pairs.frame
    moved = complex_step(lambda h: inner(w, c.textbook(c.rij + h * (rho[j] - rho[i]).T)))
    close(inner(-forces, rho), moved, AGREEMENT)
    strained = complex_step(
        lambda h: inner(w, c.textbook(c.rij + h * np.einsum("cp,pcd->dp", c.rij, strain[frame[i]])))
    )
    close(inner(virial, strain), strained, AGREEMENT)
    for f in range(c.pairs.n_frames):
        total = forces[c.pairs.first[f] : c.pairs.first[f + 1]].sum(0)
        close(total, np.zeros(3), IDENTITY * (1 + abs(forces).max()))


def in_order(pairs, chosen=slice(None)):
    """Return the order of chosen pairs by centre, neighbour and shift: lists of two cutoffs agree in nothing else."""
    return np.lexsort([*pairs.shift[chosen].T, pairs.j[chosen], pairs.i[chosen]])


def test_pairs_beyond_the_cutoff_change_nothing(run):
    """A list with a skin gives the same numbers, and nothing at all for the pairs of the skin."""
    c = run.case
    skin = Pairs.find(c.structures, c.descriptor.cutoff + 0.8)
    far = geometry.pair_vectors(c.structures.positions, c.structures.cells, skin, np.float64)
    beyond = (far**2).sum(0) >= c.descriptor.cutoff**2
    near = np.flatnonzero(~beyond)[in_order(skin, ~beyond)]
    order = in_order(c.pairs)
    trij = c.rng.normal(size=far.shape)
    w = c.rng.normal(size=(2, *c.shape))
    with run.on(skin):
        q, _ = run.forward(dual(far, trij))
        drij = run.pullback(w, dual(far, trij))
        dtheta = run.pullback_parameters(w, dual(far, trij))
    assert not drij[..., beyond].any()
    short = np.empty((2, *c.rij.shape))
    short[..., order] = dual(far, trij)[..., near]
    close(short[0], c.rij, IDENTITY)
    close(q, run.forward(short)[0], IDENTITY)
    close(drij[..., near], run.pullback(w, short)[..., order], IDENTITY)
    for name, x in run.pullback_parameters(w, short).items():
        close(dtheta[name], x, IDENTITY)


def test_two_calls_agree_bit_for_bit_and_leave_their_arguments_alone(run):
    c = run.case
    rng = c.rng
    w = rng.normal(size=(2, *c.shape))
    trij, ttheta = c.direction(rng)
    rij, theta = dual(c.rij, trij), dual(c.theta, ttheta)
    kept = w.copy(), rij.copy(), {k: x.copy() for k, x in theta.items()}

    def everything():
        q, saved = run.forward(rij, theta, keep=True)
        out = [q, run.pullback(w, rij, theta, saved), *run.pullback_parameters(w, rij, theta, saved).values()]
        # Once more from what forward saved: the pullbacks must not have written into it.
        return [*out, run.pullback(w, rij, theta, saved)]

    one, two = everything(), everything()
    for x, y in zip(one, two, strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(one[1], one[-1])
    np.testing.assert_array_equal(w, kept[0])
    np.testing.assert_array_equal(rij, kept[1])
    for name in theta:
        np.testing.assert_array_equal(theta[name], kept[2][name])


def test_prepared_parameters_change_nothing(run):
    """What a family makes of its parameters beforehand is what its maps would make of them."""
    c = run.case
    rng = c.rng
    w = rng.normal(size=(2, *c.shape))
    prepared = c.descriptor.prepared(c.theta, c.rij.dtype)
    assert prepared.keys() >= c.theta.keys()
    for rij, dq in ((c.rij, w[0]), (dual(c.rij, c.direction(rng)[0]), w)):
        found = []
        for theta in (c.theta, prepared):
            q, drij = run.forward(rij, theta)[0], run.pullback(dq, rij, theta)
            found.append([q, drij, *run.pullback_parameters(dq, rij, theta).values()])
        for one, two in zip(*found, strict=True):
            close(one, two, IDENTITY)


@pytest.mark.single
def test_single_precision_is_near_double(run):
    """Input rounded to 2^-24, sums of forty terms, products of three sums: ten to thirty times 2^-24 of the largest
    number of each kind is what rounding explains; more than twice that is a bug of float32."""
    c = run.case
    bound = 64 * 2.0**-24
    rng = c.rng
    w = rng.normal(size=(2, *c.shape))
    trij, ttheta = c.direction(rng)
    wide = dual(c.rij, trij), dual(c.theta, ttheta)
    narrow = wide[0].astype(np.float32), {k: x.astype(np.float32) for k, x in wide[1].items()}
    q, _ = run.forward(*narrow)
    drij = run.pullback(w.astype(np.float32), *narrow)
    dtheta = run.pullback_parameters(w.astype(np.float32), *narrow)
    assert q.dtype == drij.dtype == np.float32
    pairs = [(q, run.forward(*wide)[0]), (drij, run.pullback(w, *wide))]
    pairs += [(dtheta[k], x) for k, x in run.pullback_parameters(w, *wide).items()]
    for got, wanted in pairs:
        for plane in range(2):
            close(got[plane], wanted[plane], bound)
