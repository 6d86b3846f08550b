"""The sections of a training configuration, and the keys that may stand in each.

A section takes what the thing that it configures takes: the arguments of the family's class, those of Potential, the
fields of Settings. Names and defaults come from there, so that they cannot drift apart.
"""

import inspect
from dataclasses import MISSING, dataclass, fields

from fastdesc.training.settings import Settings

REQUIRED = object()
SECTIONS = ("data", "descriptor", "potential", "training", "output")


@dataclass(frozen=True)
class Data:
    """The [data] section.

    Attributes
    ----------
    train : str
        Frames with energies, forces and stresses: extended XYZ (also .gz) or any format ASE reads. Or a features
        file: energies alone are trained then, and the descriptor is that of the file.
    valid : str or None
        Validation frames; without them `valid_fraction` of the training frames is set aside.
    valid_fraction : float
        Of the training frames, set aside when no validation frames are given.
    test : str or None
        Frames on which the trained model is evaluated at the end; never seen in training.
    energy_key, forces_key, stress_key : str or None
        Names of the labels where the files use their own, such as "REF_energy".
    """

    train: str
    valid: str | None = None
    valid_fraction: float = 0.1
    test: str | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None

    def keys(self):
        """Return the label names as `read_frames` wants them."""
        return {name: getattr(self, name) for name in ("energy_key", "forces_key", "stress_key")}


@dataclass(frozen=True)
class Output:
    """The [output] section.

    Attributes
    ----------
    folder : str
        Where the model, the history, the checkpoint, the predictions and the plots go; made when it does not exist.
    plots : bool
        Draw learning curve and parity (needs matplotlib).
    """

    folder: str = "fastdesc-run"
    plots: bool = True


@dataclass(frozen=True)
class Config:
    """A checked configuration; paths are absolute or relative to the working directory.

    Attributes
    ----------
    data : Data
    family : str
    descriptor : dict
        Arguments of the family's class; `species` is missing when the data shall decide.
    potential : dict
        Arguments of Potential.
    training : Settings
    output : Output
    """

    data: Data
    family: str
    descriptor: dict
    potential: dict
    training: Settings
    output: Output


def documented(section):
    """Return the class that a section configures; the descriptor's is the family's."""
    from fastdesc.potential import Potential

    return {"data": Data, "potential": Potential, "training": Settings, "output": Output}[section]


def options_of(section):
    """Return key -> default of a section; REQUIRED where there is none."""
    cls = documented(section)
    if section == "potential":
        return {k: v for k, v in arguments_of(cls).items() if k != "descriptor"}
    options = {f.name: REQUIRED if f.default is MISSING else f.default for f in fields(cls)}
    if section == "training":
        del options["valid_fraction"]    # stands in [data]
    return options


def arguments_of(cls):
    """Return key -> default of the arguments of a class; REQUIRED where there is none."""
    arguments = inspect.signature(cls.__init__).parameters
    empty = inspect.Parameter.empty
    return {k: REQUIRED if p.default is empty else p.default for k, p in arguments.items() if k != "self"}
