"""fastdesc learning-curve: errors against the number of training structures.

    curve.json           what the curve is of
    valid.h5             validation frames of all sizes, where the configuration names none
    00050/, 00100/ ...   a training run for each size, as `fastdesc train` leaves it, and its train.h5
    curve.csv, curve.png

Subsets are nested: one random order of all training frames, of which each size takes the first ones. A size whose
errors.json is there is done; one that was interrupted goes on from its checkpoint.
"""

import csv
import io
import json
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np

from fastdesc.analysis.accuracy import three_digits
from fastdesc.analysis.size_plots import exponent, plot_sizes
from fastdesc.cli.experiment import run
from fastdesc.errors import InputError
from fastdesc.features import convert
from fastdesc.hdf5.files import as_path, to_json, write_text
from fastdesc.hdf5.locks import WriteLock
from fastdesc.io.frames import read_frames
from fastdesc.training.from_features import is_features

QUANTITIES = (("energy", "meV/atom"), ("forces", "meV/Å"), ("stress", "meV/Å³"))


def learning_curve(config, sizes, out, progress=True, say=print):
    """Train on subsets of the training frames of a configuration, and compare the errors.

    Parameters
    ----------
    config : Config
    sizes : list of int
        Training structures.
    out : str or Path
        Folder, made if need be; sizes that are done in it are not done again.
    progress : bool
        Show progress bars.
    say : callable
        Takes lines of text.

    Returns
    -------
    dict
        What was written: name -> Path.

    Raises
    ------
    InputError
        For sizes that are not there, a folder of another curve, and whatever training refuses.
    """
    out = as_path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name another folder by --out")
    if is_features(config.data.train):
        raise InputError(f"data.train is a features file, {config.data.train}; give frames, of which subsets are taken")
    frames = read_frames(config.data.train, **{k: v for k, v in config.data.keys().items() if v})
    order = np.random.default_rng(config.training.seed).permutation(len(frames))
    valid = None
    if config.data.valid is None:
        n_valid = max(1, round(config.data.valid_fraction * len(frames))) if config.data.valid_fraction else 0
        valid, order = np.sort(order[:n_valid]), order[n_valid:]
        if not n_valid and config.data.test is None:
            raise InputError("there are neither test nor validation frames to take errors on; give data.test")
    _check_sizes(sizes, len(order))
    out.mkdir(parents=True, exist_ok=True)
    with WriteLock(out / "curve"):
        _note(out, config, len(frames))
        if valid is not None and len(valid) and not (out / "valid.h5").exists():
            convert([frames[k] for k in valid], out / "valid.h5", progress=False)
        config = _with_plain_labels(config, out)
        for n in sorted(set(sizes)):
            place = out / f"{n:05d}"
            if (place / "errors.json").exists():
                say(f"{n} structures: done before")
                continue
            say(f"\n{n} structures")
            place.mkdir(exist_ok=True)
            if not (place / "train.h5").exists():
                convert([frames[k] for k in np.sort(order[:n])], place / "train.h5", progress=False)
            run(_of_size(config, out, place, valid), (place / "checkpoint.h5").exists(), False, progress, say)
            written = _report(out)
        written = _report(out)
    say("\n" + _table(out))
    return written


def _check_sizes(sizes, most):
    for n in sizes:
        if n < 1 or n > most:
            raise InputError(f"a size of {n} was asked for; there are {most} structures to train on: give 1 to {most}")


def _note(out, config, n_frames):
    """Write what the curve is of, or compare it."""
    told = {
        "data": asdict(config.data), "descriptor": {"family": config.family, **config.descriptor},
        "potential": config.potential, "training": config.training.as_dict(), "frames": {"training": n_frames},
    }  # fmt: skip
    told, path = json.loads(to_json(told)), out / "curve.json"
    if not path.exists():
        write_text(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for section, table in told.items():
        for key, value in table.items():
            known = before.get(section, {}).get(key)
            if known != value:
                raise InputError(
                    f"{out} holds a curve with [{section}] {key} = {known!r} and now it is {value!r}; name another "
                    "folder by --out"
                )


def _with_plain_labels(config, out):
    """Where labels have names of their own: validation and test frames under the usual ones, in files of ours."""
    keys, data = {k: v for k, v in config.data.keys().items() if v}, {}
    for name in ("valid", "test"):
        path = getattr(config.data, name)
        if keys and path is not None:
            data[name] = str(out / f"{name}.h5")
            if not (out / f"{name}.h5").exists():
                convert(path, out / f"{name}.h5", progress=False, **keys)
    return replace(config, data=replace(config.data, **data, **dict.fromkeys(config.data.keys())))


def _of_size(config, out, place, valid):
    """The configuration of one run."""
    data = {"train": str(place / "train.h5")}
    if valid is not None:
        data["valid"] = str(out / "valid.h5") if len(valid) else None
    return replace(
        config, data=replace(config.data, **data), output=replace(config.output, folder=str(place)),
    )  # fmt: skip


def _rows(out):
    """Size and errors of all sizes that are done, ascending."""
    rows = []
    for path in sorted(out.glob("[0-9]*/errors.json"), key=lambda path: int(path.parent.name)):
        rows.append({"size": int(path.parent.name), **json.loads(path.read_text(encoding="utf-8"))})
    return rows


def _report(out):
    """Write table and picture; return name -> Path."""
    rows, text = _rows(out), io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    kinds = [(name, kind) for name, _ in QUANTITIES for kind in ("mae", "rmse")]
    table.writerow(["size", "set", *(f"{name}_{kind}" for name, kind in kinds)])
    for row in rows:
        values = [row[name][kind] if name in row else "" for name, kind in kinds]
        table.writerow([row["size"], row["set"], *values])
    write_text(out / "curve.csv", text.getvalue())
    written = {"table": out / "curve.csv"}
    if find_spec("matplotlib") is not None and any(name in row for row in rows for name, _ in QUANTITIES):
        written["picture"] = plot_sizes(rows, out / "curve.png")
    return written


def _table(out):
    """Errors and exponents as text."""
    rows = _rows(out)
    names = [(name, unit) for name, unit in QUANTITIES if any(name in row for row in rows)]
    lines = [f"MAE on {rows[0]['set']}", f"{'size':>8}" + "".join(f"{name:>10}" for name, _ in names)]
    for row in rows:
        shown = [three_digits(1000 * row[name]["mae"]) if name in row else "" for name, _ in names]
        lines.append(f"{row['size']:>8}" + "".join(f"{text:>10}" for text in shown))
    lines.append(f"{'':8}" + "".join(f"{unit:>10}" for _, unit in names))
    slopes = []
    for name, _ in names:
        own = [row for row in rows if name in row]
        slopes.append(exponent([row["size"] for row in own], [row[name]["mae"] for row in own]))
    if np.isfinite(slopes).any():
        lines.append(f"{'exponent':>8}" + "".join(f"{slope:>10.2f}" for slope in slopes))
    return "\n".join(lines)
