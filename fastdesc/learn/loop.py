"""The loop: train, explore, choose, label, train further; every step on disk, and none of them done twice.

    loop.json                    what the loop was begun with
    train.extxyz, valid.extxyz   all labelled structures so far
    model.h5                     the newest model
    report.md, rounds.csv, rounds.png
    round-000/                   the structures to begin with, and the first model
    round-001/ ...
        explore/000.extxyz ...   structures of each trajectory
        explored.json            what was found, written when selected.extxyz is there
        selected.extxyz          structures to label
        labels/                  a file for each, as soon as it is labelled
        train.extxyz, valid.extxyz   what was labelled in this round
        model.h5, history.csv    (checkpoint.h5 while it is trained)
        round.json               the row of the report; with it the round is over

A step looks for its file, makes it where it is not there, whole or not at all, and draws from a generator of its own.
So a loop that was killed and goes on ends as if it had not been: all that a step reads comes from files.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastdesc.analysis.accuracy import compare, three_digits
from fastdesc.errors import InputError
from fastdesc.hdf5.files import to_json, whole_or_nothing
from fastdesc.hdf5.locks import WriteLock
from fastdesc.io.labels import labels
from fastdesc.learn.choose import choose, scores
from fastdesc.learn.explore import trajectory
from fastdesc.learn.files import join_files, plain, read_some, read_table, write_frames, write_table
from fastdesc.learn.labelling import check_calculator, label_frames
from fastdesc.learn.report import write_report
from fastdesc.learn.settings import FREE
from fastdesc.potential.loading import load
from fastdesc.training import run_trainer, trainer_for

LARGEST = 1e9
"""Grades are not told above; that of an element without training frames is infinite."""
EXPLORE, CHOOSE, SPLIT = range(3)
"""Generators of a round."""


class Learner:
    """A loop in a folder.

    Parameters
    ----------
    folder : Path
    loop : Loop
    begin : callable
        Training frames -> the Potential to train first, a new one each time.
    frames : dict
        "train": labelled or unlabelled structures to begin with; "valid" and "test", where they were given, labelled;
        "pool" or "start": structures to choose from, or to start dynamics from.
    told : dict
        What else the loop must be begun with to go on, as plain values.
    modules : Path
        Folder in which the module of the calculator is looked for, too.
    plots, progress : bool
    say : callable
        Takes lines of text.

    Raises
    ------
    InputError
        When the folder holds a loop of other settings.
    """

    def __init__(self, folder, loop, begin, frames, told, modules, plots=True, progress=True, say=print):
        self.folder, self.loop, self.begin, self.frames = Path(folder), loop, begin, frames
        self.modules, self.plots, self.progress, self.say = modules, plots, progress, say
        self.told = json.loads(to_json({**told, **loop.tables()}))

    def run(self):
        """Go on to the end; return the path of the report."""
        check_calculator(self.loop.label, self.modules)
        self.folder.mkdir(parents=True, exist_ok=True)
        with WriteLock(self.folder / "loop"):
            self._note()
            for r in range(self.loop.stop.rounds + 1):
                over = (self._place(r) / "round.json").exists()
                row = self._round(r)
                last = row["ended"] or r == self.loop.stop.rounds
                if last or not over:
                    write_report(self.folder, self._rows(), self.plots)
                if last:
                    rounds = f"{r} round{'s'[: r != 1]}"
                    self.say(f"round {r}: {row['ended']}" if row["ended"] else f"{rounds} are used up")
                    break
        return self.folder / "report.md"

    def _note(self):
        """Write what the loop is begun with, or compare it."""
        path = self.folder / "loop.json"
        if not path.exists():
            write_table(path, self.told)
            return
        before = read_table(path)
        for section, table in self.told.items():
            for key, value in table.items():
                known = before.get(section, {}).get(key)
                if key not in FREE.get(section, ()) and known != value:
                    raise InputError(
                        f"{self.folder} was begun with [{section}] {key} = {known!r} and now it is {value!r}; keep it, "
                        "or name another output.folder"
                    )

    def _rows(self):
        """Rows of the report, of the rounds that are over."""
        return [read_table(path) for path in sorted(self.folder.glob("round-*/round.json"))]

    def _place(self, r):
        return self.folder / f"round-{r:03d}"

    def _rng(self, r, what, *more):
        return [self.loop.seed, r, what, *more]

    def _round(self, r):
        """Do what is left of a round; return its row."""
        place = self._place(r)
        if (place / "round.json").exists():
            row = read_table(place / "round.json")
            # A target that has been moved lets a loop go on that had reached it.
            if r and row["ended"]:
                row["ended"] = self._ended(row["explored"])
                if not row["ended"]:
                    (place / "round.json").unlink()
                    return self._round(r)
            return row
        place.mkdir(exist_ok=True)
        explored = None
        if r == 0:
            selected = place / "selected.extxyz"
            if not selected.exists():
                write_frames(selected, [plain(atoms) for atoms in self.frames["train"]])
        else:
            explored = self._explored(r)
            ended = self._ended(explored)
            if ended:
                return self._finish(r, {"explored": explored, "ended": ended})
        failed = self._labelled(r)
        self._join(r)
        potential = self._trained(r)
        return self._finish(r, {"explored": explored, "ended": "", "failed": len(failed)}, potential)

    def _ended(self, explored):
        """Why the loop is over after it was explored, '' where it is not."""
        if not explored["looked_at"]:
            return "all structures of the set were chosen"
        if self.loop.stop.reached(explored):
            return "the target is reached"
        if not explored["candidates"]:
            return f"no structure has a grade of {self.loop.explore.capture_above:g} or more, and nothing is to label"
        return ""

    # ------------------------------------------------------------------------------------------- explore

    def _explored(self, r):
        place, potential = self._place(r), None
        path = place / "explored.json"
        if path.exists():
            return read_table(path)
        potential = load(self._place(r - 1) / "model.h5")
        frames = self._pool(r) if "pool" in self.frames else self._visited(r, potential)
        if not frames and "pool" in self.frames:
            table = {"looked_at": 0, "candidates": 0, "selected": 0}
            write_frames(place / "selected.extxyz", [])
            write_table(path, table)
            return table
        if not frames:
            raise InputError(
                "no trajectory could be begun: in all of them atoms are too close; look at [explore] start, strain, "
                "rattle and closest"
            )
        found = scores(potential, frames, self.loop.device)
        uncertain = found.force_uncertainty > (self.loop.stop.force_uncertainty or np.inf)
        allowed = np.flatnonzero((found.grade >= self.loop.explore.capture_above) | uncertain)
        seed = self._rng(r, CHOOSE)
        chosen = choose(found, allowed, self.loop.select.number, self.loop.select.method, seed)
        for k in chosen:
            frames[k].info |= {
                "round": r, "candidate": frames[k].info.get("candidate", int(k)), "grade": self._grade(found.grade[k]),
                "force_uncertainty": float(np.nan_to_num(found.force_uncertainty[k])),
            }  # fmt: skip
        worst = int(found.grade.argmax())
        table = {
            "looked_at": len(frames), "candidates": len(allowed), "selected": len(chosen),
            "largest_grade": self._grade(found.grade[worst]), "where": _where(frames[worst]),
            "force_uncertainty": float(np.nan_to_num(found.force_uncertainty.mean(), nan=LARGEST)),
            "ended_early": sum("ended" in atoms.info for atoms in frames),
        }  # fmt: skip
        write_frames(place / "selected.extxyz", [frames[k] for k in chosen])
        write_table(path, table)
        self.say(
            f"round {r}: {table['looked_at']} structures looked at, largest grade {table['largest_grade']:.3g} "
            f"({table['where']}), mean uncertainty of forces {three_digits(1000 * table['force_uncertainty'])} meV/Å; "
            f"{table['candidates']} candidates, {table['selected']} chosen"
        )
        return table

    @staticmethod
    def _grade(value):
        return float(min(value, LARGEST))

    def _pool(self, r):
        """Structures of the fixed set that were not chosen before."""
        taken = {a.info["candidate"] for q in range(1, r) for a in read_some(self._place(q) / "selected.extxyz")}
        frames = []
        for k, atoms in enumerate(self.frames["pool"]):
            if k not in taken:
                out = atoms.copy()
                out.info = {"candidate": k}
                frames.append(out)
        return frames

    def _visited(self, r, potential):
        """Structures of all trajectories of a round."""
        e, place = self.loop.explore, self._place(r) / "explore"
        place.mkdir(exist_ok=True)
        starts, frames = self.frames["start"], []
        for k in range(e.trajectories):
            path = place / f"{k:03d}.extxyz"
            if not path.exists():
                seed = self._rng(r, EXPLORE, k)
                start = starts[int(np.random.default_rng(seed).integers(len(starts)))]
                temperature = e.temperatures[k % len(e.temperatures)]
                seen = trajectory(potential, start, temperature, e, seed, self.loop.device)
                for atoms in seen:
                    atoms.info["trajectory"] = k
                write_frames(path, seen)
                last = seen[-1].info if seen else {"step": 0, "grade": np.nan, "ended": "closest"}
                early = f", ended early ({last['ended']})" if "ended" in last else ""
                self.say(f"round {r}: trajectory {k + 1} of {e.trajectories}, {temperature:g} K, {last['step']} steps, "
                         f"grade {last['grade']:.3g} at the end{early}")    # fmt: skip
            frames += read_some(path)
        return frames

    # --------------------------------------------------------------------------------------------- label

    def _labelled(self, r):
        """Make train.extxyz and valid.extxyz of a round; return the structures that could not be labelled."""
        place = self._place(r)
        if (place / "train.extxyz").exists():
            return read_table(place / "failed.json")
        frames, failed = read_some(place / "selected.extxyz"), {}
        known = labels(frames)
        first = np.cumsum([0, *map(len, frames)])
        complete = [np.isfinite(known.energies[k]) and np.isfinite(known.forces[a:b]).all()
                    for k, (a, b) in enumerate(pairwise(first))]    # fmt: skip
        if not all(complete) or r:
            given = [atoms for atoms, has in zip(frames, complete, strict=True) if has and not r]
            asked = place / "asked.extxyz"
            if not asked.exists():
                bare = [a.copy() for a, has in zip(frames, complete, strict=True) if r or not has]
                write_frames(asked, bare)
            note = lambda text: self.say(f"round {r}: {text}")    # noqa: E731
            new, failed = label_frames(asked, place / "labels", self.loop.label, self.modules, note)
            for k, why in failed.items():
                note(f"structure {k} is left out: {why}")
            frames = given + new
        n_valid = self._n_valid(r, len(frames))
        order = np.random.default_rng(self._rng(r, SPLIT)).permutation(len(frames))
        write_table(place / "failed.json", failed)
        write_frames(place / "valid.extxyz", [frames[k] for k in np.sort(order[:n_valid])])
        write_frames(place / "train.extxyz", [frames[k] for k in np.sort(order[n_valid:])])    # last: it is looked for
        return failed

    def _n_valid(self, r, n):
        """Structures of a round that validate: all rounds together come to the fraction."""
        f = self.loop.valid_fraction
        if not f:
            return 0
        counts = [[len(read_some(self._place(q) / f"{name}.extxyz")) for name in ("train", "valid")] for q in range(r)]
        had, valid = sum(map(sum, counts)), sum(v for _, v in counts)
        return int(np.clip(max(1, round(f * (had + n))) - valid, 0, n - 1))

    def _join(self, r):
        for name in ("train", "valid"):
            join_files(self.folder / f"{name}.extxyz", [self._place(q) / f"{name}.extxyz" for q in range(r + 1)])

    # --------------------------------------------------------------------------------------------- train

    def _sets(self, r):
        """Training and validation frames after a round; the latter None where there are none."""
        found = {name: [a for q in range(r + 1) for a in read_some(self._place(q) / f"{name}.extxyz")]
                 for name in ("train", "valid")}    # fmt: skip
        return found["train"], self.frames.get("valid") or found["valid"] or None

    def _trained(self, r):
        place = self._place(r)
        if not (place / "model.h5").exists():
            train, valid = self._sets(r)
            on = r and not self.loop.anew
            potential = load(self._place(r - 1) / "model.h5") if on else self.begin(train)
            settings = {**(self.loop.further if r else self.loop.training), "valid_fraction": 0.0}
            checkpoint = place / "checkpoint.h5"
            n_valid = len(valid) if valid else 0
            self.say(f"round {r}: training on {len(train)} structures, validating on {n_valid}")
            trainer = trainer_for(potential, train, valid, checkpoint=checkpoint, resume=True, **settings)
            run_trainer(trainer, checkpoint, self.progress, place / "history.csv")
            if on and trainer.kept.get("epoch") == 0:
                told = "training found nothing better, and the weights stay; give [further] more steps, or anew = true"
                self.say(f"round {r}: {told}")
            if potential.uncertainty is None:
                raise InputError("the trained model has no uncertainty, which the loop goes by; a warning says why")
            potential.save(place / "model.h5")
        (place / "checkpoint.h5").unlink(missing_ok=True)
        with whole_or_nothing(self.folder / "model.h5") as part:
            part.write_bytes((place / "model.h5").read_bytes())
        return load(place / "model.h5")

    def _finish(self, r, row, potential=None):
        """Write the row of a round, which ends it."""
        place = self._place(r)
        row = {"round": r, **row}
        new = [a for name in ("train", "valid") for a in read_some(place / f"{name}.extxyz")] if potential else []
        if new and r:    # predictions of structures that the model had not seen
            row["before"] = _errors(load(self._place(r - 1) / "model.h5"), new, self.loop.device)
        if potential is not None:
            train, valid = self._sets(r)
            judged = self.frames.get("test") or valid
            row |= {"n_train": len(train), "n_valid": len(valid or []), "new": len(new)}
            if judged:
                row |= {"errors": _errors(potential, judged, self.loop.device)}
                row["judged_on"] = "test" if self.frames.get("test") else "valid"
        write_table(place / "round.json", row)
        self.say(f"round {r}: {told(row)}")
        return row


def told(row):
    """What a round came to, in one line."""
    if "n_train" not in row:
        return "no new labels"
    parts = [f"{row['n_train'] + row['n_valid']} labels"]
    if "before" in row:
        parts.append(f"MAE of forces on the {row['new']} new ones, before: {_milli(row['before'], 'forces', 'meV/Å')}")
    if "errors" in row:
        errors = row["errors"]
        parts.append(f"MAE on {row['judged_on']}: energy {_milli(errors, 'energy', 'meV/atom')}, "
                     f"forces {_milli(errors, 'forces', 'meV/Å')}")    # fmt: skip
    return "; ".join(parts)


def _milli(errors, name, unit):
    return f"{three_digits(1000 * errors[name]['mae'])} {unit}" if name in errors else "none"


def _errors(potential, frames, device):
    """mae and rmse of energies per atom and forces, in eV and Å."""
    found = compare(potential, frames, device, uncertainty=False).errors()
    return {name: {k: found[name][k] for k in ("mae", "rmse")} for name in ("energy", "forces") if name in found}


def _where(atoms):
    """Name a structure by where it comes from."""
    info = atoms.info
    if "trajectory" in info:
        return f"trajectory {info['trajectory'] + 1} at {info['temperature']:g} K, step {info['step']}"
    return f"structure {info['candidate']} of the set"
