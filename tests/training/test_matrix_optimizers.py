"""SOAP and Muon against their papers, written down in float64; exact continuation; the device double."""

from itertools import pairwise

import numpy as np
import pytest
from doubles.cupy_double import DeviceArray, device_double

import fastdesc as fd
from fastdesc.backend.threads import set_threads
from fastdesc.errors import FastdescError, InputError
from fastdesc.training.matrix_optimizers import SOAP, Muon, orthogonalised
from fastdesc.training.optimizer import AdamW, Group
from fastdesc.training.parameter_groups import optimizer_for
from fastdesc.training.settings import Settings

SHAPES = {"descriptor/beta": (2, 2, 3), "network/0/weight": (5, 4), "network/0/bias": (5, 1)}
MATRICES = {"descriptor/beta": (4, 3), "network/0/weight": (5, 4)}
OPTIMIZERS = [SOAP, Muon]


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients(k):
    rng = np.random.default_rng(1000 + k)
    return {name: rng.normal(size=shape) * rng.lognormal() for name, shape in SHAPES.items()}


def soap_by_the_paper(p, grads, rate, decay, refresh, memory, b1, b2):
    """Algorithm 3 of arXiv:2409.11321: the momentum stays in the space of the parameters."""
    rows, columns = grads[0].shape
    L, R, m, v = np.zeros((rows, rows)), np.zeros((columns, columns)), np.zeros((rows, columns)), None
    for t, g in enumerate(grads):
        L, R = memory * L + (1 - memory) * g @ g.T, memory * R + (1 - memory) * g.T @ g
        if t == 0:
            QL, QR = (np.linalg.eigh(a)[1][:, ::-1] for a in (L, R))
            v = np.zeros((rows, columns))
            eps = 1e-8 + 1e-6 * np.sqrt((g**2).sum())
            p = p - rate * (g / (abs(g) + eps) + decay * p)    # which the paper leaves out
            continue
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (QL.T @ g @ QR) ** 2
        second = v / (1 - b2**t)
        eps = 1e-8 + 1e-6 * np.sqrt(second.sum())
        n = (QL.T @ m @ QR) / (1 - b1**t) / (np.sqrt(second) + eps)
        p = p - rate * (QL @ n @ QR.T + decay * p)
        if t % refresh == 0:
            bases = []
            for Q, A, axis in ((QL, L, 0), (QR, R, 1)):
                order = np.argsort([-(q @ A @ q) for q in Q.T])
                v = np.take(v, order, axis)
                bases.append(np.linalg.qr(A @ Q[:, order])[0])
            QL, QR = bases
    return p


@pytest.mark.parametrize("refresh", [1, 3])
def test_soap_is_that_of_the_paper(refresh):
    start, grads = parameters(), [gradients(k) for k in range(8)]
    found = {name: a.copy() for name, a in start.items()}
    optimizer = SOAP(
        found, MATRICES, refresh, 0.9, 0.8, 0.95, learning_rate=0.02, groups={"network/": Group(2.0, 0.3)}
    )
    for g in grads:
        optimizer.step(found, g)
    for name, rate, decay in (("descriptor/beta", 0.02, 0.0), ("network/0/weight", 0.04, 0.3)):
        shape = MATRICES[name]
        given = [g[name].reshape(shape) for g in grads]
        expected = soap_by_the_paper(start[name].reshape(shape), given, rate, decay, refresh, 0.9, 0.8, 0.95)
        assert abs(found[name] - start[name]).max() > 0.05
        # The direction, of about 1, is float32; so is each of the eight steps.
        np.testing.assert_allclose(found[name].reshape(shape), expected, atol=8 * rate * 2e-5)


def test_wide_bases_are_improved_less_often():
    """Of the 130 columns only at step 5, of the 3 rows at every one."""
    rng, p = np.random.default_rng(0), {"weight": np.zeros((3, 130))}
    optimizer, seen = SOAP(p, refresh=1), []
    for _ in range(6):
        optimizer.step(p, {"weight": rng.normal(size=(3, 130))})
        seen.append({side: optimizer.state_dict()[f"{side}_basis/weight"] for side in ("left", "right")})
    changed = {side: [bool((a[side] != b[side]).any()) for a, b in pairwise(seen)] for side in ("left", "right")}
    assert changed == {"left": [True] * 5, "right": [False, False, False, True, False]}
    basis = seen[-1]["right"]
    np.testing.assert_allclose(basis.T @ basis, np.eye(130), atol=1e-5)    # float32


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_any_number_of_threads_gives_the_same_bits(kind):
    found = {}
    for n in (1, 3):
        rng, p = np.random.default_rng(2), {f"{k}/weight": np.ones((40, 50)) for k in range(4)}
        optimizer = kind(p)
        set_threads(n)
        try:
            for _ in range(12):
                optimizer.step(p, {name: rng.normal(size=a.shape) for name, a in p.items()})
        finally:
            set_threads(None)
        found[n] = p
    for name, a in found[1].items():
        np.testing.assert_array_equal(a, found[3][name])


def test_muon_has_singular_values_near_one_and_momentum():
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(7, 4)))
    v, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    x = orthogonalised((u * [3.0, 1.0, 0.3, 0.1]) @ v.T)
    inside = u.T @ x @ v
    assert abs(inside - np.diag(np.diag(inside))).max() < 1e-6
    assert (np.diag(inside) > 0.6).all() and (np.diag(inside) < 1.25).all()
    np.testing.assert_array_equal(orthogonalised(x.T), orthogonalised(x).T)
    start, grads = parameters(), [gradients(k) for k in range(4)]
    found, m, expected = {n: a.copy() for n, a in start.items()}, np.zeros((5, 4)), start["network/0/weight"].copy()
    optimizer = Muon(found, {"network/0/weight": (5, 4)}, 0.9, learning_rate=0.02, weight_decay=0.1)
    for g in grads:
        optimizer.step(found, g, factor=0.5)
        m = 0.9 * m + 0.1 * g["network/0/weight"]
        direction = 0.2 * np.sqrt(5) * orthogonalised(0.9 * m + 0.1 * g["network/0/weight"])
        expected -= 0.01 * (direction + 0.1 * expected)
    assert abs(expected - start["network/0/weight"]).max() > 0.01
    np.testing.assert_allclose(found["network/0/weight"], expected, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_no_matrix_takes_the_step_of_adamw(kind):
    p, q = parameters(), parameters()
    a, b = kind(p, weight_decay=0.1, clip=1.0), AdamW(q, weight_decay=0.1, clip=1.0)
    assert set(a.matrices) == {"network/0/weight"}
    for k in range(3):
        a.step(p, gradients(k))
        b.step(q, gradients(k))
    for name in ("descriptor/beta", "network/0/bias"):
        np.testing.assert_array_equal(p[name], q[name])
    assert (p["network/0/weight"] != q["network/0/weight"]).any()


def test_a_regression_on_correlated_inputs_is_solved_where_adam_is_still_on_its_way():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    mixing, target, left = turn * np.logspace(-1.5, 0, 8), rng.normal(size=(6, 8)), {}
    for kind in (AdamW, Muon, SOAP):
        p = {"weight": np.zeros((6, 8))}
        optimizer = kind(p, learning_rate=0.05)
        for step in range(600):
            x = mixing @ rng.normal(size=(8, 32))
            optimizer.step(p, {"weight": (p["weight"] - target) @ x @ x.T / 32}, 1 - step / 600)
        left[kind] = (((p["weight"] - target) @ mixing) ** 2).sum()
    assert left[SOAP] < 1e-4 * left[AdamW] and left[Muon] < left[AdamW]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_matrices_without_a_gradient_stay(kind):
    p = parameters()
    optimizer = kind(p)
    for _ in range(12):
        optimizer.step(p, {name: np.zeros(shape) for name, shape in SHAPES.items()})
    for name, a in parameters().items():
        np.testing.assert_array_equal(p[name], a)


def test_directions_without_a_gradient_are_left_alone():
    """The gradient has rank one; what rounding leaves elsewhere must not be blown up to a step."""
    rng = np.random.default_rng(0)
    p = {"weight": np.zeros((6, 5))}
    optimizer, row, column = SOAP(p, learning_rate=1.0), rng.normal(size=6), rng.normal(size=5)
    for step in range(40):
        optimizer.step(p, {"weight": 100 * rng.normal() * np.outer(row, column)})
        if step == 0:
            p["weight"][:] = 0    # Adam's step
    off = p["weight"] - np.outer(row, row @ p["weight"]) / (row @ row)
    assert abs(p["weight"]).max() > 1 and abs(off).max() < 0.3


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_continuation_gives_the_same_bits(kind):
    whole = parameters()
    one = kind(whole, MATRICES, learning_rate=0.01, weight_decay=0.1)
    for k in range(25):
        if k == 7:
            kept, state = {n: a.copy() for n, a in whole.items()}, one.state_dict()
        one.step(whole, gradients(k))
    other = kind(kept, MATRICES, learning_rate=0.01, weight_decay=0.1)
    other.load_state_dict(state)
    for k in range(7, 25):
        other.step(kept, gradients(k))
    for name in SHAPES:
        np.testing.assert_array_equal(kept[name], whole[name])
    with pytest.raises(InputError, match="not one of this optimizer"):
        AdamW(kept).load_state_dict(state)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_device_steps_as_the_host_does_and_never_waits(kind):
    p = parameters()
    a = kind(p, MATRICES, learning_rate=0.01, weight_decay=0.1)
    with device_double() as ledger:
        q = {name: DeviceArray(x.copy()) for name, x in parameters().items()}
        b = kind(q, MATRICES, learning_rate=0.01, weight_decay=0.1)
        given = [{name: DeviceArray(x) for name, x in gradients(k).items()} for k in range(12)]
        ledger.clear()
        for k, g in enumerate(given):
            norm = a.step(p, gradients(k))
            b.step(q, g, norm=norm)
        assert not ledger.waits and not ledger.uploads
        state = b.state_dict()
        b.load_state_dict(state)
        found = {name: x.get() for name, x in q.items()}
    assert set(state) == set(a.state_dict())
    for name in SHAPES:
        np.testing.assert_allclose(found[name], p[name], rtol=1e-6, atol=1e-7)


def test_what_cannot_be_followed_is_named():
    with pytest.raises(InputError, match=r"matrix 'network/0/weight' came as \(3, 3\), and it is \(5, 4\)"):
        SOAP(parameters(), {"network/0/weight": (3, 3)})
    with pytest.raises(InputError, match=r"matrix 'nothing' .* not a parameter"):
        Muon(parameters(), {"nothing": (3, 3)})
    for name, value in (("refresh", 0), ("memory", 1.0), ("matrix_beta1", -0.1), ("matrix_beta2", 1.0)):
        with pytest.raises(InputError, match=name):
            SOAP(parameters(), **{name: value})
    with pytest.raises(InputError, match="momentum"):
        Muon(parameters(), momentum=1.0)
    p = parameters()
    with pytest.raises(FastdescError, match="too long at step 1"):
        SOAP(p).step(p, {name: 1e20 * g for name, g in gradients(0).items()})
    np.testing.assert_array_equal(p["network/0/weight"], parameters()["network/0/weight"])


@pytest.mark.parametrize(
    ("name", "kind", "matrices"),
    [
        ("soap", SOAP, {"descriptor/beta": (12, 5), "network/0/0/weight": None, "network/1/1/weight": (4, 6)}),
        ("muon", Muon, {"network/0/0/weight": None, "network/1/1/weight": (4, 6)}),
        ("adamw", AdamW, {}),
    ],
)
def test_settings_choose_the_optimizer_and_its_matrices(name, kind, matrices):
    descriptor = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=3, n_basis=5)
    potential = fd.Potential(descriptor, hidden=(6, 4))
    optimizer = optimizer_for(potential, potential.parameters, Settings(optimizer=name))
    assert type(optimizer) is kind
    found = getattr(optimizer, "matrices", {})
    for which, shape in matrices.items():
        assert found[which] == (shape or (6, descriptor.n_features))
    assert not any(which.endswith("bias") or which == "network/0/2/weight" for which in found)
    assert ("descriptor/beta" in found) == (name == "soap")
    recursion = fd.Potential(fd.EmbeddedDensity(species=["H"], iterations=1, hidden=(6,)), hidden=(6,))
    inside = getattr(optimizer_for(recursion, recursion.parameters, Settings(optimizer=name)), "matrices", {})
    assert ("descriptor/network.1.H.0.weight" in inside) == (name != "adamw")

    few = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], species_mixing="factorised"), hidden=(6,))
    many = fd.Potential(fd.GaussianMoments(species=range(1, 16)), hidden=(6,))
    own = [getattr(optimizer_for(p, p.parameters, Settings(optimizer=name)), "matrices", {}) for p in (few, many)]
    assert ({"descriptor/centre", "descriptor/neighbour", "descriptor/radial"} <= own[0].keys()) == (name == "soap")
    assert "descriptor/beta" not in own[1]    # 1125 rows


def test_an_optimizer_that_is_not_there():
    with pytest.raises(InputError, match="optimizer"):
        Settings(optimizer="sgd")
