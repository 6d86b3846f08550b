"""What training leaves to look at: one row per epoch, as CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Self

from fastdesc.errors import InputError
from fastdesc.hdf5.files import to_json, write_text
from fastdesc.types import FilePath


class History:
    """Rows of numbers, one per epoch; columns may differ from row to row.

    Attributes
    ----------
    rows : list of dict
        epoch, learning_rate, seconds, train_* and valid_* errors: energy in eV/atom, forces in eV/Å, stress (as virial
        per atom) in eV/atom, and loss; train_penalty is what curvature, magnitude and pull add to train_loss.
    """

    def __init__(self, rows: Iterable[Mapping[str, float | None]] = ()) -> None:
        self.rows = [dict(row) for row in rows]
        for row in self.rows:
            for name, value in row.items():
                if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                    raise InputError(f"{name} of a row of a history came as {value!r}; it must be a number")

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        column = "valid_loss" if "valid_loss" in self.columns() else "train_loss"
        best = self.best(column)
        text = f", best {column} {best[column]:.4g} in epoch {best['epoch']:g}" if best else ""
        return f"<History: {len(self)} epochs{text}>"

    def __getitem__(self, column: str) -> list[float | None]:
        """Return one column as a list; None where a row lacks it."""
        return [row.get(column) for row in self.rows]

    def columns(self) -> list[str]:
        """Names of all columns in order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def best(self, column: str = "valid_loss") -> dict[str, Any] | None:
        """Return the row with the smallest value of a column, which must be finite: a potential may diverge."""
        values = [(row.get(column), row) for row in self.rows]
        finite = [(value, row) for value, row in values if value is not None and math.isfinite(value)]
        return min(finite, key=lambda pair: pair[0])[1] if finite else None

    def save(self, path: FilePath) -> None:
        """Write CSV or, for a name that ends in .json, JSON; whole or not at all."""
        if str(path).endswith(".json"):
            write_text(path, to_json(self.rows))
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(path, text.getvalue())

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Read what `save` wrote."""
        with open(path, encoding="utf-8") as file:
            if str(path).endswith(".json"):
                return cls(json.load(file))
            return cls([{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)])


def summary(row):
    """Return the errors of a row as a few words, for a progress bar: meV/atom and meV/Å."""
    which = "valid" if "valid_loss" in row else "train"
    parts = [f"loss {row[f'{which}_loss']:.2e}"]
    for name, unit in (("energy_mae", "meV/at"), ("forces_mae", "meV/Å")):
        if f"{which}_{name}" in row:
            parts.append(f"{name[0].upper()} {1000 * row[f'{which}_{name}']:.2f} {unit}")
    return ", ".join(parts)
