"""Optimizers that see a parameter as a matrix: SOAP and Muon. What is no matrix takes the step of AdamW.

Their states are float32, NumPy or CuPy: they only choose a direction. Masters stay float64.
"""

import math

import numpy as np

from fastdesc.backend.arrays import namespace
from fastdesc.backend.threads import for_chunks, single_threaded_blas
from fastdesc.checks import count
from fastdesc.errors import InputError
from fastdesc.training.optimizer import AdamW
from fastdesc.training.schedules import check_number

NOISE = 1e-6
"""Of the length of a gradient: what float32 leaves unknown of an element of it after two products."""
WIDE, RARELY = 128, 4
"""Bases of SOAP with more vectors are improved so many times less often."""


class _OfMatrices(AdamW):
    """AdamW with another step for some parameters."""

    _longest = 1e15    # squares of float32 end at 1e38

    def __init__(self, parameters, matrices=None, **adam):
        self.matrices = plain_matrices(parameters) if matrices is None else dict(matrices)
        for name, shape in self.matrices.items():
            if name not in parameters or math.prod(shape) != math.prod(parameters[name].shape) or len(shape) != 2:
                own = tuple(parameters[name].shape) if name in parameters else "not a parameter"
                raise InputError(f"matrix {name!r} came as {tuple(shape)}, and it is {own}; give (rows, columns)")
        super().__init__(parameters, **adam)

    def _move(self, name, p, g, shorten, rate, decay):
        if name not in self.matrices:
            super()._move(name, p, g, shorten, rate, decay)
            return
        matrix = (shorten * g).astype(np.float32, copy=False).reshape(self.matrices[name])
        p -= rate * (self._direction(name, matrix).reshape(p.shape) + decay * p)

    def _each(self, move, names):
        """On the host in our threads, each parameter in one of them: they share nothing."""
        if not self.matrices or not isinstance(next(iter(self._moments.values())), np.ndarray):
            super()._each(move, names)
            return
        # Those that take longest first: matrices by their longer side, which bases have.
        order = sorted(names, key=lambda name: -max(self.matrices.get(name, (0,))))
        with single_threaded_blas():
            for_chunks(lambda first, last: [move(name) for name in order[first:last]], len(order), 1)


class SOAP(_OfMatrices):
    """Adam in the eigenbasis of Shampoo's preconditioner: Vyas et al., ICLR 2025 (arXiv:2409.11321).

    For a matrix with gradient G (rows, columns), at every step:

        L <- memory L + (1 - memory) G G^T,    R <- memory R + (1 - memory) G^T G                       (6)
        H = U^T G V                            U, V: eigenvectors of L and R                            (7)
        M <- b1 M + (1 - b1) H,    W <- b2 W + (1 - b2) H^2                                             (8)
        P <- P - rate ( U [ M_t / (sqrt(W_t) + eps_t) ] V^T + weight_decay P ),  X_t = X / (1 - b^t)    (9)

    with eps_t = eps + 1e-6 sqrt(sum W_t): along eigenvectors that no gradient has, H is the rounding of float32, which
    must not be blown up to a step.

    Every `refresh` steps one step of the power iteration improves the bases, U <- qr(L U), with the columns in falling
    order of u^T L u; M is turned into the new bases and W takes the new order. Bases of more than 128 vectors, whose
    qr costs more than all else, are improved every fourth time: they are those of the features, which change slowly.
    The first step makes the bases, in which its own gradient would be diagonal; it is Adam's.

    Parameters
    ----------
    parameters : dict of str to float64 array
    matrices : dict of str to (int, int), optional
        Name -> (rows, columns): how a parameter is seen; None takes all with two axes, both longer than 1.
    refresh : int
        Steps between two improvements of the bases.
    memory, matrix_beta1, matrix_beta2 : float
        memory, b1, b2.
    **adam
        Of AdamW; beta1 and beta2 are for what is no matrix.
    """

    def __init__(
        self, parameters, matrices=None, refresh=10, memory=0.99, matrix_beta1=0.95, matrix_beta2=0.99, **adam
    ):
        count("refresh", refresh)
        for name, value in (("memory", memory), ("matrix_beta1", matrix_beta1), ("matrix_beta2", matrix_beta2)):
            check_number(name, value, 0, 1)
        self.refresh, self.memory, self.matrix_betas = refresh, memory, (matrix_beta1, matrix_beta2)
        super().__init__(parameters, matrices, **adam)

    def _start(self, name, p):
        if name not in self.matrices:
            return super()._start(name, p)
        rows, columns = self.matrices[name]
        shapes = {"m": (rows, columns), "v": (rows, columns), "left": (rows, rows), "right": (columns, columns)}
        shapes |= {"left_basis": (rows, rows), "right_basis": (columns, columns)}
        return {kind: namespace(p).zeros(shape, np.float32) for kind, shape in shapes.items()}

    def _direction(self, name, g):
        m, v, left, right, u, w = (
            self._moments[f"{kind}/{name}"] for kind in ("m", "v", "left", "right", "left_basis", "right_basis")
        )
        xp = namespace(g)
        for mean, square in ((left, g @ g.T), (right, g.T @ g)):
            mean *= self.memory
            mean += (1 - self.memory) * square  # (6)
        if self.n_steps == 1:
            for basis, mean in ((u, left), (w, right)):
                basis[...] = xp.linalg.eigh(mean)[1][:, ::-1]
            return g / (abs(g) + (self.eps + NOISE * xp.sqrt((g * g).sum())))
        beta1, beta2 = self.matrix_betas
        turned = u.T @ g @ w  # (7)
        m *= beta1
        m += (1 - beta1) * turned
        v *= beta2
        v += (1 - beta2) * turned**2  # (8)
        k = self.n_steps - 1
        second = v / (1 - beta2**k)
        scaled = m / (1 - beta1**k) / (xp.sqrt(second) + (self.eps + NOISE * xp.sqrt(second.sum())))
        direction = u @ scaled @ w.T  # (9)
        if k % self._steps_between(u) == 0:
            new, order = _improved(xp, u, left)
            m[...], v[...], u[...] = (new.T @ u) @ m, v[order], new
        if k % self._steps_between(w) == 0:
            new, order = _improved(xp, w, right)
            m[...], v[...], w[...] = m @ (w.T @ new), v[:, order], new
        return direction

    def _steps_between(self, basis):
        """Steps between two improvements of a basis."""
        return self.refresh * (RARELY if len(basis) > WIDE else 1)


def _improved(xp, basis, mean):
    """One step of the power iteration, and the order of the old columns: largest eigenvalue first."""
    product = mean @ basis
    order = xp.argsort(-(basis * product).sum(0))
    return xp.linalg.qr(product[:, order])[0], order


class Muon(_OfMatrices):
    """Momentum whose singular values are made nearly equal: Jordan et al. 2024; scale of Liu et al., arXiv:2502.16982.

        M <- b M + (1 - b) G
        P <- P - rate ( 0.2 sqrt(max(rows, columns)) N(b M + (1 - b) G) + weight_decay P )             (10)
        N: X <- X / |X|, then five times    A = X X^T,  X <- 3.4445 X + (-4.775 A + 2.0315 A^2) X      (11)

    Parameters
    ----------
    parameters, matrices
        As SOAP.
    momentum : float
        b.
    **adam
        Of AdamW, for what is no matrix.
    """

    def __init__(self, parameters, matrices=None, momentum=0.95, **adam):
        check_number("momentum", momentum, 0, 1)
        self.momentum = momentum
        super().__init__(parameters, matrices, **adam)

    def _start(self, name, p):
        if name not in self.matrices:
            return super()._start(name, p)
        return {"m": namespace(p).zeros(self.matrices[name], np.float32)}

    def _direction(self, name, g):
        m, rest = self._moments[f"m/{name}"], (1 - self.momentum) * g
        m *= self.momentum
        m += rest
        return 0.2 * math.sqrt(max(m.shape)) * orthogonalised(self.momentum * m + rest)


def orthogonalised(matrix, steps=5):
    """Return a matrix of the same singular vectors, whose singular values lie near 1 (0.7 to 1.2): formula (11)."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (namespace(x).sqrt((x * x).sum()) + 1e-12)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def plain_matrices(parameters):
    """Parameters with two axes, both longer than 1: name -> shape."""
    return {name: p.shape for name, p in parameters.items() if len(p.shape) == 2 and min(p.shape) > 1}
