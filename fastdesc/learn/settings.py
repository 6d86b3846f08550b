"""What a learning loop is told: where it looks, what it takes, who labels it, when it is done."""

from dataclasses import asdict, dataclass
from numbers import Real

from fastdesc.checks import brief, count, one_of, positive
from fastdesc.errors import InputError
from fastdesc.learn.calculators import check_name

METHODS = ("uncertain", "diverse", "typical", "random")


@dataclass(frozen=True)
class Explore:
    """The [explore] section.

    Attributes
    ----------
    frames : str or None
        A fixed set of structures to choose from; there are no dynamics then. Labels they carry are not looked at, the
        calculator is asked: so a teacher is distilled.
    start : str or None
        Structures that dynamics start from; without them those of data.train.
    temperatures : tuple
        K; trajectories take them in turns.
    pressure : float or None
        GPa; without it the cell stays as it is.
    trajectories : int
        In each round.
    steps, timestep : int, float
        Length of each, and fs of a step; with 0 steps structures are strained and rattled only.
    every : int
        Steps between looks at the structure.
    repeat : tuple
        Cells in each direction.
    strain, rattle : float
        Standard deviations of a random strain, and of displacements in Å, before dynamics.
    capture_above : float
        Grade from which a structure is a candidate; 1 is the farthest atom of the training frames. So is one whose
        forces are less certain than stop.force_uncertainty.
    stop_above : float
        Grade at which dynamics ends.
    closest : float
        Of the sum of covalent radii: dynamics ends where two atoms are nearer, and the structure is left out.
    """

    frames: str | None = None
    start: str | None = None
    temperatures: tuple = (300.0, 600.0, 900.0)
    pressure: float | None = None
    trajectories: int = 6
    steps: int = 1000
    timestep: float = 2.0
    every: int = 20
    repeat: tuple = (1, 1, 1)
    strain: float = 0.0
    rattle: float = 0.0
    capture_above: float = 0.5
    stop_above: float = 10.0
    closest: float = 0.6

    def __post_init__(self):
        numbers = _list("temperatures", self.temperatures, "temperatures in K")
        for value in numbers:
            positive("a temperature", value, "K")
        object.__setattr__(self, "temperatures", numbers)
        cells = _list("repeat", self.repeat, "three whole numbers")
        if len(cells) != 3:
            raise InputError(f"repeat came as {brief(self.repeat)}; it must be three whole numbers, such as [1, 1, 1]")
        for value in cells:
            count("repeat", value)
        object.__setattr__(self, "repeat", cells)
        for name in ("trajectories", "every"):
            count(name, getattr(self, name))
        count("steps", self.steps, 0)
        for name, unit in (("timestep", "fs"), ("stop_above", "a grade")):
            positive(name, getattr(self, name), unit)
        for name in ("strain", "rattle", "capture_above", "closest"):
            _not_negative(name, getattr(self, name))
        for name, most, unit in (("strain", 0.5, ""), ("rattle", 5.0, " Å")):    # cells turn inside out beyond
            if getattr(self, name) > most:
                raise InputError(f"{name} came as {getattr(self, name)!r}; it must be at most {most}{unit}")
        if self.pressure is not None and not (_is_number(self.pressure) and abs(self.pressure) < 1e300):
            raise InputError(f"pressure came as {self.pressure!r}; it must be a finite number (GPa)")
        if self.frames is not None and self.start is not None:
            raise InputError("frames and start came together; give frames to choose from, or start for dynamics")


@dataclass(frozen=True)
class Select:
    """The [select] section.

    Attributes
    ----------
    number : int
        Structures that are labelled in each round, at most.
    method : {"uncertain", "diverse", "typical", "random"}
        "uncertain": the largest uncertainty of forces, given that what was chosen before is known. "diverse": the
        farthest in the last layer. "typical": at random by that distance (k-means++). "random" is there to compare.
    """

    number: int = 10
    method: str = "uncertain"

    def __post_init__(self):
        count("number", self.number)
        one_of("method", self.method, METHODS)


@dataclass(frozen=True)
class Label:
    """The [label] section.

    Attributes
    ----------
    calculator : str
        Class of an ASE calculator, as "module:Class"; modules beside the configuration are found too.
    arguments : dict or None
        Its keyword arguments. It runs in a folder of its own: write paths from the root.
    workers : int
        Processes that label; 0 labels in the process of the loop. With scheduler = "local", those of the cluster.
    reuse : bool
        Let a worker keep its calculator, such as a model that takes long to load. Otherwise each structure gets a new
        one: what a calculator remembers of others, if only the order of neighbours, may change the last digits, and a
        loop that was killed would not end to the last bit as if it had not been.
    largest_force : float
        eV/Å: structures with larger ones are left out.
    scheduler : str or None
        Address of a Dask scheduler whose workers label, or "local"; they need the folder of the loop under the same
        name.
    """

    calculator: str
    arguments: dict | None = None
    workers: int = 1
    reuse: bool = False
    largest_force: float = 50.0
    scheduler: str | None = None

    def __post_init__(self):
        if self.scheduler is not None and (not isinstance(self.scheduler, str) or not self.scheduler):
            raise InputError(f"scheduler came as {brief(self.scheduler)}; it must be an address, or 'local'")
        check_name(self.calculator)
        count("workers", self.workers, 0, 4096)
        positive("largest_force", self.largest_force, "eV/Å")


@dataclass(frozen=True)
class Stop:
    """The [stop] section: the loop ends when what it set out for is reached, or when the rounds are used up.

    Attributes
    ----------
    rounds : int
        At most; the first training is not counted.
    grade : float
        Reached where no structure of a round has a larger one; 0 does not ask for it.
    force_uncertainty : float
        eV/Å; reached where the mean over the structures of a round is not larger; 0 does not ask for it. With grade
        both must be reached.
    """

    rounds: int = 10
    grade: float = 1.0
    force_uncertainty: float = 0.05

    def __post_init__(self):
        count("rounds", self.rounds)
        for name in ("grade", "force_uncertainty"):
            _not_negative(name, getattr(self, name))

    def reached(self, explored):
        """Whether what was found in a round is what the loop set out for."""
        targets = ((self.grade, "largest_grade"), (self.force_uncertainty, "force_uncertainty"))
        asked = [explored[name] <= target for target, name in targets if target]
        return bool(asked) and all(asked)


FREE = {"label": ("workers", "scheduler"), "stop": ("rounds", "grade", "force_uncertainty"), "output": ("plots",)}
"""Settings that may change when a loop goes on."""


@dataclass(frozen=True)
class Loop:
    """All four sections, and what training needs to know.

    Attributes
    ----------
    explore : Explore
    select : Select
    label : Label
    stop : Stop
    training, further : dict
        Settings of the first training, and of those after it.
    anew : bool
        Whether later rounds train an untrained potential instead of the newest one.
    valid_fraction : float
        Of all labels, set aside for validation; 0 where validation frames were given.
    seed : int
    device : str
    """

    explore: Explore
    select: Select
    label: Label
    stop: Stop
    training: dict
    further: dict
    anew: bool
    valid_fraction: float
    seed: int
    device: str

    def tables(self):
        """The four sections as plain values."""
        return {name: asdict(getattr(self, name)) for name in ("explore", "select", "label", "stop")}


def _list(name, value, what):
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{name} came as {brief(value)}; it must be a list of {what}")
    return tuple(value)


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool)


def _not_negative(name, value):
    if not _is_number(value) or not 0 <= value < 1e300:
        raise InputError(f"{name} came as {value!r}; it must be a number of at least 0")
