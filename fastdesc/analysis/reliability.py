"""Whether predicted uncertainties are right: errors beside the standard deviations that were predicted for them.

Where they are right, errors over standard deviations are normal: a share p of them lies within the central interval of
probability p, for every p, and larger standard deviations go with larger errors.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVELS = np.arange(1, 100) / 100
"""Probabilities p at which coverage is looked at."""
SHOWN = (0.5, 0.9, 0.95)
"""Those that are printed."""
HALF_WIDTHS = np.array([NormalDist().inv_cdf(0.5 + p / 2) for p in LEVELS])
"""Of the central intervals, in standard deviations."""
FEWEST = 10
"""Numbers from which shares and ranks are told."""


@dataclass(frozen=True)
class Reliability:
    """Errors and the standard deviations predicted for them, one of each for every number that was compared.

    Attributes
    ----------
    error, width : (n,) float64
    """

    error: np.ndarray
    width: np.ndarray

    @property
    def coverage(self):
        """Share of the errors within the central interval of each probability of LEVELS, (99,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.sort(np.nan_to_num(abs(self.error) / self.width))    # nothing over nothing is no error
        return np.searchsorted(size, HALF_WIDTHS, side="right") / len(size)

    @property
    def calibration_error(self):
        """Mean over LEVELS of the distance between coverage and probability; 0 is right, 0.5 the most there is."""
        return float(abs(self.coverage - LEVELS).mean())

    @property
    def rank_correlation(self):
        """Spearman's correlation of |error| and width; NaN where either is the same for all."""
        a, b = ranks(abs(self.error)), ranks(self.width)
        a, b = a - a.mean(), b - b.mean()
        size = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / size) if size > 0 else np.nan

    def binned(self, n_bins=12):
        """Root mean squares of width and of error in bins of equally many numbers, by width: two (n,) arrays."""
        groups = np.array_split(np.argsort(self.width, kind="stable"), min(n_bins, max(1, len(self.width) // FEWEST)))
        return tuple(np.array([np.sqrt((x[g] ** 2).mean()) for g in groups]) for x in (self.width, self.error))

    def summary(self):
        """Plain values: n, coverage_50, coverage_90, coverage_95, calibration_error, rank_correlation."""
        shares = {f"coverage_{round(100 * p)}": float(self.coverage[round(100 * p) - 1]) for p in SHOWN}
        rank = self.rank_correlation
        return {
            "n": len(self.error),
            **shares,
            "calibration_error": self.calibration_error,
            "rank_correlation": None if np.isnan(rank) else rank,
        }


def ranks(x):
    """Rank of every number from 0 up; equal numbers share the mean of theirs."""
    _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which.ravel()]


def table(found):
    """Text of quantity -> Reliability, in percent."""
    lines = [f"{'uncertainty':12}{'in 50 %':>9}{'in 90 %':>9}{'in 95 %':>9}{'calib. error':>14}{'rank corr.':>12}"]
    for name, one in found.items():
        s = one.summary()
        shares = "".join(f"{100 * s[f'coverage_{round(100 * p)}']:7.1f} %" for p in SHOWN)
        rank = "-" if s["rank_correlation"] is None else f"{s['rank_correlation']:.2f}"
        lines.append(f"{name:12}{shares}{100 * s['calibration_error']:12.1f} %{rank:>12}")
    return "\n".join(lines)
