"""The loop of training: steps, validation and the best parameters."""

import time
import warnings
from dataclasses import replace

import numpy as np

from fastdesc.backend.arrays import resolve_device, resolve_dtype, to_device, to_host, to_host_together
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.hdf5.files import check_target
from fastdesc.potential.transfer import load_filters
from fastdesc.training.batch_gradient import EVERYTHING, FIXED_ENERGIES, PASSES, batch_gradient, evaluate_set
from fastdesc.training.budget import step_frames, with_budget
from fastdesc.training.checkpoint import FORMAT, snapshot, write_checkpoint
from fastdesc.training.data import training_set
from fastdesc.training.data_warnings import warn_of_data
from fastdesc.training.feature_dataset import with_features
from fastdesc.training.history import History
from fastdesc.training.identity import identity
from fastdesc.training.label_counts import check_label_counts
from fastdesc.training.loss import LossWeights, Metrics
from fastdesc.training.optimizer import WeightAverage, WeightMean
from fastdesc.training.order_of_shear import tell_of_shear
from fastdesc.training.parameter_groups import check_penalty, groups_for, optimizer_for
from fastdesc.training.progress import Progress, summary
from fastdesc.training.pull import Pull, check_pull
from fastdesc.training.references import keep_or_refit
from fastdesc.training.schedules import Plateau, constant, cosine, first_late, is_late
from fastdesc.training.team import ALONE, met_by_all
from fastdesc.training.trainer_state import state_of
from fastdesc.training.training_record import training_record
from fastdesc.training.uncertainty import fit as fit_uncertainty

MIDWAY = 20_000
"""Steps after which a checkpoint is written in the middle of an epoch."""
SUMS = "total", "penalty"


class Trainer:
    """The loop: everything that a checkpoint must hold (fastdesc/training/trainer_state.py) is a field here.

    Parameters
    ----------
    further : bool, optional
        Whether the potential had been trained before this run, which has changed it since; by default as it is.
    team : Team
        Those that make each step together, whose trainers are in the same state when they run.
    """

    def __init__(self, potential, train_frames, valid_frames, settings, rng, further=None, team=ALONE):
        self.potential, self.settings, self.rng, self.team = potential, settings, rng, team
        self.sources = train_frames, valid_frames
        self.device, self.dtype = resolve_device(settings.device), resolve_dtype(settings.dtype)
        self.further = potential.fitted and settings.filters_from is None if further is None else further
        settings = self.settings = settings.with_rates(self.further)
        groups = groups_for(potential, settings)    # judges early
        if settings.filters_from is not None:
            load_filters(potential, settings.filters_from, settings.filters_elements)
        self.smoothed, self.pull = bool(settings.curvature or settings.magnitude), None
        self.penalised = self.smoothed or settings.pull > 0
        check_pull(potential, settings.pull, self.further)
        if self.smoothed:
            _, gradient = self._penalty(potential.parameters)    # a family without splines refuses
            check_penalty([groups[name] for name in gradient], settings, potential.fitted)
        given = potential, self.dtype, self.device
        self.data = training_set(train_frames, *given, pair_memory=settings.pair_memory)
        left = settings.pair_memory - self.data.kept_gigabytes
        self.valid = training_set(valid_frames, *given, "validation", left) if valid_frames else None
        self.weights = LossWeights.of(settings)
        check_label_counts(self.data, self.valid, self.weights)
        warn_of_data(self.data, self.valid, potential)
        self.run_of = identity(potential, self.data, self.valid)
        if not potential.fitted:
            self._start()
        elif self.further:
            self.said_of_references = keep_or_refit(potential, self.data, settings.refit_references)
        self.parameters = {name: to_device(a.copy(), self.device) for name, a in potential.parameters.items()}
        self.like = next(iter(self.parameters.values()))    # an array of our device
        self.pull = Pull(self.parameters, settings.pull) if settings.pull else None
        s = settings
        # Steps of direct weights go by the fitted scaler.
        self.optimizer = optimizer_for(potential, self.parameters, settings)
        rates = [g.rate for name, g in self.optimizer.groups.items() if name.startswith("descriptor/")]
        energies_alone = all(x.energies_alone(self.weights) for x in (self.data, self.valid) if x is not None)
        self.training_pass = PASSES[not any(rates), energies_alone]
        if self.training_pass is FIXED_ENERGIES:
            self.data = with_features(self.data, potential.descriptor)
            self.valid = with_features(self.valid, potential.descriptor) if valid_frames else None
        self.average = WeightAverage(self.parameters, s.ema) if s.ema else None
        self.plateau = Plateau() if s.schedule == "plateau" else None
        self.history, self.epoch, self.step = History(), 0, 0
        self.part = {}    # of the present epoch, where a checkpoint was written in it: steps and sums so far
        self.best, self.best_loss, self.best_epoch = None, np.inf, 0
        self.judged, self.interim = 0, None    # step of the last validation; row of one in the middle of an epoch
        self.skipped, self.mean = 0, None    # epochs left out; mean of the parameters of late epochs
        self.before = {}    # errors of the weights that training starts from, where it goes on from some
        self.seconds = 0.0
        self.timed = settings.minutes is not None
        self.settings, self.chosen = with_budget(settings, self.data, self._seconds_of_step)
        forces = not energies_alone    # energies against nothing need no weight
        self.late_energy = settings.energy_weight * (settings.late_energy_factor if forces else 1.0)

    def _seconds_of_step(self, settings):
        """Shortest time of some steps on copies, the first of which compiles."""
        parameters, times = {name: a.copy() for name, a in self.parameters.items()}, []
        optimizer = optimizer_for(self.potential, parameters, settings)
        for group in step_frames(settings, self.data, np.arange(self.data.n_frames))[:4]:
            own = self._share(group)
            own = own if len(own) else group[:1]
            for _ in range(2):
                start = time.monotonic()
                batch = self.data.batch(own, self.potential.reference)
                model = self.potential.model(self.dtype, parameters=parameters)
                _, gradient = batch_gradient(self.potential, model, batch, self.weights, self.training_pass)
                norm = np.sqrt(to_host_together(optimizer.square_norm(gradient))[0])
                optimizer.step(parameters, gradient, 0.0, norm=float(norm))
                times.append(time.monotonic() - start)
        return min(times)

    def _start(self):
        """Fit all that needs no gradient; a descriptor stays as it is if any of it is frozen or stored."""
        if self.settings.start == "linear":
            self.data.start_linear(self.potential, self.weights, self.settings.curvature)
            return
        groups = groups_for(self.potential, self.settings)
        learns = all(group.rate for name, group in groups.items() if name.startswith("descriptor/"))
        self.data.initialise(self.potential, learns)

    # --------------------------------------------------------------------------------------------- the loop

    def run(self, checkpoint=None, progress=True, team=None, history=None, callback=None):
        """Train to the end, or to the time limit or loss of patience; leaves the best parameters in the potential.

        With the other members of a team, that of the trainer or another. However training ends, what has not been
        validated is validated then; a checkpoint holds the state before, from which a run goes on as if uninterrupted.
        """
        team = self.team = self.team if team is None else team
        if team.rank:
            self.part.pop("metrics", None)    # the first member goes on with those of all
        s = self.settings
        if checkpoint is not None:
            check_target(checkpoint, FORMAT)
        start, before, begun = time.monotonic(), self.seconds, self.epoch
        shown = Progress(self.history, s.epochs, int(self.data.n_atoms.sum()), progress, history, callback)
        shown.say(f"training on {self.data.report}{self.data.about_pairs}")
        if self.valid is not None:
            shown.say(f"validating on {self.valid.report}{self.valid.about_pairs}")
        if self.chosen:
            shown.say(f"chosen: {self.chosen}")
        if self.further:
            self._judge_start(shown)
        whole = None    # the state at the end of the last epoch, while it is not in the checkpoint
        ended = False

        def midway(here, done, steps):
            nonlocal whole
            self.seconds = before + time.monotonic() - start
            if checkpoint is not None:
                write_checkpoint(checkpoint, state_of(self))
                whole = None
            shown.within(here, done, steps)

        try:
            while self.position < s.epochs:
                with warnings.catch_warnings():
                    # Divergence is told in one sentence, by what finds the loss or the gradient not finite.
                    warnings.filterwarnings("ignore", "overflow|invalid value", RuntimeWarning)
                    row = self._epoch(midway)
                team.check_same(list(self.parameters.values()))
                spent = time.monotonic() - start
                self.seconds = before + spent
                self.history.rows.append({**row, "weight_norm": self._weight_norm(), "seconds": self.seconds})
                stalled = self._stalled()
                left_out = self._cool_down() if stalled else 0    # before the state is taken: a run may go on from it
                if checkpoint is not None:
                    # An interruption strikes in the middle of an epoch, from where nothing could go on exactly.
                    whole = snapshot(state_of(self))
                    if self.epoch % s.checkpoint_every == 0:
                        write_checkpoint(checkpoint, whole)
                        whole = None
                if team.any(shown.after(self.history.rows[-1]), self.like):
                    break
                waited = self.epoch - max(self.best_epoch, begun)
                if stalled:
                    shown.epochs -= left_out
                    shown.say(f"validation has stalled: from epoch {self.best_epoch} into the late epochs")
                if s.patience is not None and self.judged == self.step and waited >= s.patience:
                    break
                if s.time_limit is not None and team.any(spent >= s.time_limit, self.like):
                    break
            self._try_mean()
            ended = True
        except Exception:
            self.judged = self.step    # what went wrong is not worth a validation
            raise
        finally:
            shown.close()
            if whole is not None:
                write_checkpoint(checkpoint, whole)
            self._keep(ended)
        team.rest()
        if self.best is not None and s.uncertainty and team.rank == 0:
            self._fit_uncertainty()
        if self.best is not None and team.rank == 0 and self.training_pass is EVERYTHING:
            tell_of_shear(self.potential, self.data)
        if self.best is None and any("valid_loss" in row for row in self.history.rows):
            text = "the loss on the validation frames was never finite, and the potential is what it was before"
            warnings.warn(f"{text}; lower learning_rate or set clip=1", FastdescWarning, stacklevel=2)
        for data, words in ((self.data, "the training frames"), (self.valid, "the validation frames")):
            if data is not None:
                descriptor = self.potential.descriptor
                data.short_distances(descriptor).warn(descriptor, words)
        return self.history

    def _epoch(self, midway=lambda *steps: None):
        """Make the steps of an epoch, from where a checkpoint in it left off; return its row of the history."""
        s, part, generator = self.settings, self.part, self.rng.bit_generator.state
        groups = step_frames(s, self.data, self.data.order(self.rng))
        late, before = (is_late(k, s.epochs, s.late) for k in (self.position, self.position - 1))
        weights = self._judging if late else self.weights
        if late and not before and self.valid is None:
            self.best_loss = np.inf    # losses on training frames weigh otherwise from here
        metrics, total, penalty = Metrics(self.like, part.get("metrics")), *(part.get(k, 0.0) for k in SUMS)
        done = before_this_run = int(part.get("steps", 0))
        steps_per_epoch, groups = len(groups), groups[done:]
        own_groups = [self._share(group) for group in groups]
        # Who has no frames takes part in the sums all the same, with a frame that counts nothing.
        given = [own if len(own) else group[:1] for own, group in zip(own_groups, groups, strict=True)]
        batches = self.data.batches_ahead(given, self.potential.reference)
        for group, own, batch in zip(groups, own_groups, batches, strict=True):
            model = self.potential.model(self.dtype, parameters=self.parameters)
            found, gradient = batch_gradient(self.potential, model, batch, weights, self.training_pass)
            summed = self.team.sum_dict({"loss": found.loss, **gradient}, len(own) / len(group))
            loss, gradient = summed.pop("loss"), summed
            if self.penalised:
                value, added = self._penalty(self.parameters)
                penalty += value * len(group)
                gradient |= {name: gradient[name] + g for name, g in added.items() if name in gradient}
            # The one wait for a device: metrics stay there until the end of the epoch.
            loss, square, *asked = to_host_together(loss, self.optimizer.square_norm(gradient), *self.team.heard)
            if any(asked):
                self.team.stop()
            with met_by_all():
                self._step(gradient, loss, float(np.sqrt(square)), steps_per_epoch)
            if self.average is not None:
                self.average.update(self.parameters)
            self.step += 1
            if len(own):
                metrics.add(found.errors)
            total += float(loss) * len(group)
            done += 1
            if done % MIDWAY == 0 and done < steps_per_epoch:
                sums = {"total": total, "penalty": float(penalty), "metrics": metrics.gathered(self.team)}
                self.part = {"generator": generator, "steps": done, **sums}
                midway(done - before_this_run, done, steps_per_epoch)
        self.epoch, self.part = self.epoch + 1, {}
        if late:
            averaged = self._averaged()
            self.mean = self.mean or WeightMean(averaged)
            self.mean.update(averaged)
        rate = s.learning_rate * self._factor(steps_per_epoch)
        row = {"epoch": self.epoch, "learning_rate": rate, "train_loss": total / self.data.n_frames}
        if self.penalised:
            row["train_penalty"] = float(penalty) / self.data.n_frames
        row |= {f"train_{name}": value for name, value in metrics.result(self.team).items()}
        if self.valid is None or self.epoch % s.valid_every == 0 or self.position == s.epochs:
            row |= self._validate(row["train_loss"])
        return row

    def _step(self, gradient, loss, norm, steps_per_epoch):
        if not np.isfinite(loss):
            raise InputError(f"the loss became {loss} in epoch {self.epoch + 1}; lower learning_rate or set clip=1")
        self.optimizer.step(self.parameters, gradient, self._factor(steps_per_epoch), norm=norm)

    def _share(self, group):
        """Frames of a step that are ours."""
        return self.team.share(group, self.data.n_atoms[group])

    def _weight_norm(self):
        """Length of all weights of networks."""
        with np.errstate(over="ignore"):
            squares = [w @ w for w in (a.reshape(-1) for n, a in self.parameters.items() if n.endswith("weight"))]
        return float(np.sqrt(sum(map(float, to_host_together(*squares))))) if squares else 0.0

    def _penalty(self, parameters):
        """What curvature, magnitude and pull add to the loss, and its gradient, named like the parameters."""
        value, gradient = (0.0, {}) if self.pull is None else self.pull(parameters)
        if self.smoothed:
            theta = {n.removeprefix("descriptor/"): p for n, p in parameters.items() if n.startswith("descriptor/")}
            hints, s = self.potential.descriptor.training_hints, self.settings
            of_filters, more = hints.penalty(theta, s.curvature, s.magnitude)
            value = value + of_filters
            for name, g in more.items():
                name = f"descriptor/{name}"
                gradient[name] = gradient[name] + g if name in gradient else g
        return value, gradient

    @property
    def _judging(self):
        """Weights of the end of the run, which also validate."""
        return replace(self.weights, energy=self.late_energy) if self.settings.late else self.weights

    def _factor(self, steps_per_epoch):
        """Factor of all learning rates at this step."""
        s = self.settings
        total, step = s.epochs * steps_per_epoch, self.step + self.skipped * steps_per_epoch
        warm = round(s.warmup * total)
        if self.plateau is not None:
            return constant(step, total, warm) * self.plateau.factor
        return {"cosine": cosine, "constant": constant}[s.schedule](step, total, warm)

    def _validate(self, train_loss):
        """Errors on the validation frames; the schedule and patience go by them."""
        row, loss = self._judge(train_loss)
        if self.plateau is not None:
            self.plateau.update(loss)
        return row

    def _judge(self, train_loss, averaged=None):
        """Errors on the validation frames with averaged parameters, and what counts; remembers the best."""
        averaged = self._averaged() if averaged is None else averaged
        row, loss = {}, train_loss
        if self.valid is not None:
            model = self.potential.model(self.dtype, parameters=averaged)
            judged = self.potential.reference, self._judging, self.training_pass, self.team
            found = evaluate_set(model, self.valid, *judged)
            row = {f"valid_{name}": value for name, value in found.items()}
            loss = found["loss"]
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best = {name: a.copy() for name, a in averaged.items()}
        self.judged = self.step
        return row, loss

    def _judge_start(self, shown):
        """Errors of the weights that training goes on from: what is worse does not replace them."""
        shown.say(self.said_of_references)
        if self.valid is None or self.step or self.best is not None:
            return
        row, _ = self._judge(np.inf, self.parameters)
        self.before = {"epoch": 0, **row}
        shown.say(f"the weights to start from: {summary(self.before)}")

    def _averaged(self):
        return self.average.value() if self.average is not None else self.parameters

    @property
    def position(self):
        """Epochs of the schedule that are over or were left out."""
        return self.epoch + self.skipped

    def _stalled(self):
        """Whether the late epochs shall begin at once."""
        s = self.settings
        now, last = (is_late(k, s.epochs, s.late) for k in (self.position, s.epochs - 1))
        early = s.schedule == "cosine" and last and not now
        if not (s.stall and early and self.valid is not None and self.best is not None and self.judged == self.step):
            return False
        return self.epoch - self.best_epoch >= max(s.stall * s.epochs, 5 * s.valid_every)

    def _cool_down(self):
        """Go to the first late epoch with the best parameters; return how many epochs are left out."""
        left_out = first_late(self.settings.epochs, self.settings.late) - self.position
        self.skipped += left_out
        for name, a in self.parameters.items():
            a[...] = self.best[name]
        if self.average is not None:
            self.average = WeightAverage(self.parameters, self.settings.ema)
        return left_out

    def _try_mean(self):
        """Keep the mean over the late epochs where it is the best."""
        if self.mean is None or self.valid is None or self.best is None or self.judged != self.step:
            return
        before, (row, loss) = self.best_loss, self._judge(np.inf, self.mean.value())
        if loss < before:
            self.history.rows[-1] = {**self.history.rows[-1], **row}

    def _keep(self, ended):
        """Validate what is there where that is still to be done, and leave the best parameters in the potential.

        Not on one of several devices that was interrupted: the others do not answer any more, unless all have stopped.
        Without validation frames and without a whole epoch, what is there is kept.
        """
        answered = self.team.size == 1 or self.team.stopped
        try:
            if self.judged != self.step and self.valid is not None and (ended or answered):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "overflow|invalid value", RuntimeWarning)
                    before, (row, loss) = self.best_loss, self._judge(np.inf)
                if ended and self.history.rows:
                    self.history.rows[-1] = {**self.history.rows[-1], **row}
                elif loss < before:
                    self.interim = {"epoch": self.epoch + 1, **row}
            elif self.judged != self.step and self.best is None and answered:
                self.best, self.interim = dict(self._averaged()), {"epoch": self.epoch + 1}
        finally:
            if self.best is not None:
                self._into_potential(self.best)
                self.potential.training = training_record(self)

    def _fit_uncertainty(self):
        """Of the parameters that are kept; what cannot have one is told."""
        try:
            self.potential.uncertainty = fit_uncertainty(self.potential, self.data, self.valid, self._judging)
        except InputError as error:
            warnings.warn(f"there is no uncertainty: {error}", FastdescWarning, stacklevel=3)

    @property
    def kept(self):
        """Row of the history of the parameters that are kept, {} where none are.

        After an interruption in the middle of an epoch these may be of that epoch, as far as it came.
        """
        rows = [row for row in self.history.rows if row["epoch"] == self.best_epoch]
        if self.best is not None and self.best_epoch == 0 and self.interim is None:
            return self.before
        return self.interim or (rows[0] if rows and self.best is not None else {})

    def _into_potential(self, parameters):
        self.potential.set_parameters({name: to_host(a) for name, a in parameters.items()})
