"""Shallow ensembles: some last layers over one network, whose spread is trained to be that of the errors.

The members' last layers are w + d_m, m = 1 .. M, with w that of the trained potential, which goes on saying what it
said. With x the features of an energy or of a force component (fastdesc/potential/last_layer.py), its standard
deviation is

    s(x) = a |D^T x|,    D = (d_1 .. d_M) / sqrt(M),    a = a_E for energies, a_F for forces                   (1)

D begins as a sample of the last layer's Gaussian, L Z / sqrt(M) with L of fastdesc/potential/uncertainty.py, and then
makes a loss smallest, the mean over errors e of energies plus that over errors of forces: the negative logarithm of the
likelihood, or the continuous ranked probability score in units of the root mean square r of the errors,

    log s + e²/(2 s²)    or    s/r (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)),  z = e/s                        (2)

with Phi and phi of the normal distribution. Energies alone would leave the widths of forces to chance (arXiv
2602.15747). Errors are those of training frames; the D that does best on validation frames is kept, and these calibrate
a_E and a_F as they do for the Gaussian.
"""

import numpy as np
from scipy.special import ndtr

from fastdesc.backend.threads import single_threaded_blas
from fastdesc.errors import InputError

PROBES = 8
"""Components of forces of each frame that are looked at."""
STEPS, RATE, LOOK, PATIENCE = 2000, 0.01, 20, 15
"""Steps of Adam at most and their rate; steps between two looks at the validation frames; looks without progress."""
DECAY = 0.9, 0.999
LIKELIHOODS = "nll", "crps"
LEAST = 1e-12
"""Of the root mean square error: no width is smaller."""


def train_members(factor, train, valid, members, likelihood, seed=0):
    """D of (1), (n, members) float64, and how the loss went.

    Parameters
    ----------
    factor : (n, n) float64
        L.
    train, valid : sequence of (features, errors)
        Of energies, and of components of forces: (n_samples, n) and (n_samples,) float64 arrays, which may be empty.
    members : int
    likelihood : {"nll", "crps"}
    seed : int

    Returns
    -------
    d : (n, members) float64
    told : dict
        steps, loss_before and loss of the validation frames.
    """
    n = factor.shape[1]
    rng = np.random.default_rng(seed)
    train, valid = _whitened(train, factor), _whitened(valid, factor)
    if not train or not valid:
        raise InputError("no frame carries an energy or forces whose errors a likelihood could be taken of; give some")
    z = rng.standard_normal((n, members))
    b = z / np.sqrt(members)
    scales = [0.0] * len(train)
    for k, (x, e) in enumerate(train):
        widths = np.sqrt(((x @ b) ** 2).sum(axis=1))
        seen = widths > LEAST * max(widths.max(initial=0.0), 1e-300)
        scales[k] = np.log(np.sqrt(((e[seen] / widths[seen]) ** 2).mean())) if seen.any() else 0.0
    parameters = [b, np.array(scales)]
    rates = [RATE * float(np.sqrt((b**2).mean())), RATE]
    mean, square = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    best, best_loss, before, at, waited = b, np.inf, None, 0, 0
    with single_threaded_blas():
        for step in range(STEPS + 1):
            if step % LOOK == 0:
                loss = _judged(parameters[0], valid, likelihood)
                before = loss if before is None else before
                waited = 0 if loss < best_loss else waited + 1
                if loss < best_loss:
                    best, best_loss, at = parameters[0].copy(), loss, step
                if waited > PATIENCE or step == STEPS:
                    break
            gradients = _gradients(parameters, train, likelihood)
            for p, g, m, v, rate in zip(parameters, gradients, mean, square, rates, strict=True):
                m += (1 - DECAY[0]) * (g - m)
                v += (1 - DECAY[1]) * (g**2 - v)
                m_hat, v_hat = m / (1 - DECAY[0] ** (step + 1)), v / (1 - DECAY[1] ** (step + 1))
                p -= rate * m_hat / (np.sqrt(v_hat) + 1e-12)
    return factor @ best, {"steps": at, "loss_before": float(before), "loss": float(best_loss)}


def score(errors, widths, likelihood, size):
    """Mean of (2) over errors, and its derivative by each width.

    Parameters
    ----------
    errors, widths : (n,) arrays
    likelihood : {"nll", "crps"}
    size : float
        r of (2).
    """
    z = errors / widths
    if likelihood == "nll":
        value, slope = np.log(widths) + 0.5 * z**2, (1 - z**2) / widths
    else:
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        value = widths / size * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
        slope = (2 * density - 1 / np.sqrt(np.pi)) / size
    return float(value.mean()), slope / len(errors)


def _whitened(samples, factor):
    """(features times L, errors) of the kinds that are there, known widths only."""
    out = []
    for x, e in samples:
        x = x @ factor if len(x) else np.zeros((0, factor.shape[1]))
        seen = (x**2).sum(axis=1) > 0    # by symmetry some components are zero, and known to be
        if seen.any() and (e[seen] != 0).any():
            out.append((x[seen], e[seen]))
    return out


def _widths(b, scale, x):
    """s, the members' deviations, and |D^T x|, which is no smaller than LEAST allows."""
    each = x @ b
    size = np.sqrt((each**2).sum(axis=1))
    size = np.maximum(size, LEAST * max(size.max(), 1e-300))
    return np.exp(scale) * size, each, size


def _gradients(parameters, train, likelihood):
    """Derivatives of the loss by the members, (n, M), and by the logarithms of the factors."""
    b, scales = parameters
    of_b, of_scales = np.zeros_like(b), np.zeros_like(scales)
    for k, (x, e) in enumerate(train):
        s, each, size = _widths(b, scales[k], x)
        _, slope = score(e, s, likelihood, np.sqrt((e**2).mean()))
        of_scales[k] = (slope * s).sum()
        of_b += x.T @ ((slope * s / size**2)[:, None] * each)
    return of_b, of_scales


def _judged(b, valid, likelihood):
    """Loss of the validation frames with the factors that suit them best, as calibration will choose them."""
    total = 0.0
    for x, e in valid:
        s, *_ = _widths(b, 0.0, x)
        s = s * np.sqrt(((e / s) ** 2).mean())
        total += score(e, s, likelihood, np.sqrt((e**2).mean()))[0]
    return total
