"""The settings of training, with defaults that work; the [training] section of a configuration is the same list."""

import math
import sys
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from os import PathLike

from fastdesc.backend.arrays import DEVICES, resolve_dtype
from fastdesc.checks import brief, count, one_of, strings
from fastdesc.errors import InputError, nearest

SCHEDULES = ("cosine", "plateau", "constant")
STARTS = ("random", "linear")
RATES = {"learning_rate": 2e-3, "descriptor_learning_rate": 1e-2}
FURTHER = 0.2
"""Factor of these rates for a potential that has been trained before."""
MOST_COUNTED = 10**12
MOST = sys.float_info.max
STRESS = {"stress_weight": 0.02, "stress_limit": 0.02}
"""Where neither is given. Of a published set of nickel, whose labels of shear are in another order and whose pressures
are off by 3 GPa, energies are more than twice as accurate as with a weight of 0.1 and no limit."""
LONGEST = 10_000_000
"""Minutes, nearly twenty years; more is a mistake of the unit."""
PAIR_MEMORY = 4.0
"""GB of pairs that are kept."""
FRAME_MEMORY = 4.0
"""GB of frames in memory."""
OPTIMIZERS = ("soap", "muon", "adamw", "amsgrad")


@dataclass(frozen=True)
class Settings:
    """Settings of `fastdesc.train`.

    Attributes
    ----------
    epochs : int or None
        Passes over the training frames; None takes as many as `steps` or `minutes` make, and without these 20 000
        steps, at most 2000 epochs (fastdesc/training/budget.py).
    steps : int or None
        Steps of the optimizer, rounded to whole epochs.
    minutes : float or None
        Epochs that take about so long, by the time of some steps before the first; the schedule ends with them.
    batch_size : int or None
        Structures per step; None cuts steps by `batch_atoms`.
    batch_atoms : int or None
        Atoms per step at most (one structure at least); None takes a sixteenth of all, from 32 to 128.
    learning_rate, descriptor_learning_rate : float or None
        Of networks, and of the descriptor's parameters; 0 freezes. None: 2e-3 and 1e-2, and for a potential that has
        been trained before a fifth of that.
    refit_references : bool
        Of a potential that has been trained before: fit reference energies anew, for labels of another kind; else they
        are kept.
    weight_decay : float
        Decoupled (AdamW), on network weights.
    optimizer : {"soap", "muon", "adamw", "amsgrad"}
        SOAP and Muon take the weights of networks as matrices, SOAP also beta of Gaussian moments, and step all else as
        AdamW does (fastdesc/training/matrix_optimizers.py).
    clip : float or None
        Largest norm of a gradient; longer ones are shortened.
    energy_weight, force_weight, stress_weight : float
        On squared errors of energy per atom, force component and virial per atom, all in eV (fastdesc.training.loss).
        stress_weight None: 0.02, with a stress_limit of 0.02.
    stress_limit : float or None
        Errors of the virial per atom, eV, beyond which its loss grows no more as the square but in proportion, so that
        labels which no potential can follow do not spoil energies and forces. None: no limit to a weight that is
        given.
    late : float
        Last fraction of the steps, in which energies count more; validation losses weigh so throughout.
    late_energy_factor : float
        By which energy_weight rises then; 1 leaves it as it is.
    stall : float
        Fraction of the epochs: after so many (and five validations) without a better validation loss the late ones
        begin at once, from the best parameters; 0 never. Of the schedule "cosine".
    curvature, magnitude : float
        Weights of the filters' integrals of S''² and S² in the loss, for descriptors with splines
        (fastdesc/descriptors/spline_filters/penalty.py); they keep filters readable.
    pull : float
        Of a potential that has been trained before: weight, in the loss, of how far its parameters are from those that
        training began with (fastdesc/training/pull.py), against forgetting; 1 to 10 is felt. 0: they are free.
    freeze : list of str
        Parameters that training leaves as they are: names, or patterns such as "descriptor/*".
    filters_from : str or None
        Model file whose spline filters replace those of the potential before training; freeze ["descriptor/*"] keeps
        them.
    filters_elements : dict or None
        Element of that model -> element here, such as {Si = "Ge"}; None: elements keep theirs.
    start : {"random", "linear"}
        Of an untrained potential. "linear" gives the first pair filter of spline filters, where it enters the energy
        directly, the pair potential that fits best (fastdesc/training/linear_start.py).
    schedule : {"cosine", "plateau", "constant"}
        Of the learning rates. "plateau" halves them when the validation loss stalls.
    warmup : float
        Fraction of all steps during which rates rise from zero.
    ema : float
        Decay per step of the average of parameters, which is what is validated and kept; 0 switches it off.
    valid_fraction : float
        Of the training frames, set aside when no validation frames are given; 0 trains on all.
    valid_every : int
        Epochs between validations.
    patience : int or None
        Stop after so many epochs of this run without a better validation loss; judged after each validation.
    checkpoint_every : int
        Epochs between checkpoints.
    seed : int
        Of the order of the frames and of the split.
    device : {"cpu", "cuda", "auto"}
    devices : int or "all"
        GPUs that share every batch, each in a process of its own; several need NCCL, and "all" is one without it.
    dtype : {"float32", "float64"}
        Of the passes; parameters and optimizer are float64 always.
    time_limit : float or None
        Seconds of this run after which training ends gracefully; a resumed run has as many again.
    pair_memory : float
        Gigabytes for the pairs of all frames. Sets with more find the pairs of each step anew, in a thread beside the
        step before; the numbers are the same.
    frame_memory : float
        Gigabytes for training and validation frames. Files of frames that `fastdesc convert` wrote and that take more
        stay on the disk: blocks of frames are read in random order, and as many as fit are shuffled among each other
        (fastdesc/training/streamed_set.py). Other files are read into memory whole.
    uncertainty : bool
        Fit what predict(uncertainty=True) needs at the end, which takes about as long as an epoch.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    batch_atoms: int | None = None
    learning_rate: float | None = None
    descriptor_learning_rate: float | None = None
    refit_references: bool = False
    weight_decay: float = 0.01
    optimizer: str = "soap"
    clip: float | None = None
    energy_weight: float = 10.0
    force_weight: float = 1.0
    stress_weight: float | None = None
    stress_limit: float | None = None
    late: float = 0.25
    late_energy_factor: float = 30.0
    stall: float = 0.15
    curvature: float = 0.0
    magnitude: float = 0.0
    pull: float = 0.0
    freeze: tuple = ()
    start: str = "random"
    filters_from: str | None = None
    filters_elements: dict | None = None
    schedule: str = "cosine"
    warmup: float = 0.02
    ema: float = 0.99
    valid_fraction: float = 0.1
    valid_every: int = 1
    patience: int | None = None
    checkpoint_every: int = 10
    seed: int = 0
    device: str = "cpu"
    devices: int | str = 1
    dtype: str = "float32"
    time_limit: float | None = None
    pair_memory: float = PAIR_MEMORY
    frame_memory: float = FRAME_MEMORY
    uncertainty: bool = True

    def __post_init__(self):
        if self.stress_weight is None:
            for name, value in STRESS.items():
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)
        for name in ("valid_every", "checkpoint_every"):
            count(name, getattr(self, name))
        for name in ("epochs", "steps", "batch_size", "batch_atoms", "patience"):
            if getattr(self, name) is not None:
                count(name, getattr(self, name))
                if getattr(self, name) > MOST_COUNTED:
                    raise InputError(f"{name} came as {brief(getattr(self, name))}; it must be at most {MOST_COUNTED}")
        count("seed", self.seed, 0)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("start", self.start, STARTS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("device", self.device, DEVICES)
        if not (isinstance(self.devices, str) and self.devices == "all"):
            count('devices, unless "all",', self.devices)
        object.__setattr__(self, "dtype", resolve_dtype(self.dtype).name)
        for name in RATES:
            if getattr(self, name) is not None:
                self._in_range(name, 0, math.inf)
        for name in ("weight_decay", "energy_weight", "force_weight", "stress_weight"):
            self._in_range(name, 0, math.inf)
        for name in ("curvature", "magnitude", "pull", "pair_memory", "frame_memory"):
            self._in_range(name, 0, math.inf)
        for name in ("ema", "valid_fraction", "warmup", "late", "stall"):
            self._in_range(name, 0, 1)
        self._in_range("late_energy_factor", 0, math.inf)
        object.__setattr__(self, "freeze", strings("freeze", self.freeze, 'names, such as "descriptor/*"'))
        for name in ("clip", "time_limit", "minutes", "stress_limit"):
            if getattr(self, name) is not None:
                self._in_range(name, 0, math.inf)
        for name in ("uncertainty", "refit_references"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} came as {getattr(self, name)!r}; it must be True or False")
        if self.filters_from is not None and not isinstance(self.filters_from, str | PathLike):
            raise InputError(f"filters_from came as {self.filters_from!r}; give the path of a model file")
        if self.filters_elements is not None and self.filters_from is None:
            raise InputError(f"filters_elements {self.filters_elements!r} came without filters_from; name the model")
        budget = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(budget) > 1:
            raise InputError(f"{' and '.join(budget)} came together; give one of them")
        if self.minutes is not None and self.minutes > LONGEST:
            raise InputError(f"minutes came as {self.minutes!r}; it must be at most {LONGEST}")
        for name in ("minutes", "late_energy_factor"):
            if getattr(self, name) == 0:
                raise InputError(f"{name} came as 0; give a number above 0, or leave it out")
        if self.clip == 0:
            raise InputError("clip came as 0, which would stop every step; leave it out, or give a number above 0")
        if self.stress_limit == 0:
            raise InputError("stress_limit came as 0; no stress would count. Give a number above 0, or leave it out")
        if self.energy_weight + self.force_weight + self.stress_weight == 0:
            raise InputError("energy_weight, force_weight and stress_weight are all 0; give at least one a weight")

    def _in_range(self, name, low, high):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= value < high or value > MOST:
            allowed = f"a number of at least {low}" + (f" and below {high}" if high < math.inf else "")
            raise InputError(f"{name} came as {value!r}; it must be {allowed}")
        if not isinstance(value, int | float):    # fractions and the like
            object.__setattr__(self, name, float(value))

    def with_rates(self, trained):
        """With learning rates where none were set, for a potential that has been trained before, or not."""
        factor = FURTHER if trained else 1.0
        return replace(self, **{k: factor * r for k, r in RATES.items() if getattr(self, k) is None})

    @classmethod
    def named(cls, **settings):
        """Make Settings from keyword arguments; InputError with the nearest right name for an unknown one."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"training has no setting {name!r}{nearest(name, known)}; it has {', '.join(known)}")
        return cls(**settings)

    def as_dict(self):
        """Return all settings by name, as plain values that survive a file."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: str(value) if isinstance(value, PathLike) else value for name, value in values.items()}
