"""Data sets of the accuracy benchmark, and errors published for them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataSet:
    """A set with its files, in the folder that is given, and how its literature counts.

    Attributes
    ----------
    train : str
        File of training frames, without .extxyz or .extxyz.gz.
    tests : dict of str to str
        Name of a test -> file.
    measure : {"mae", "rmse"}
    per_atom : bool
        Energies in meV/atom, else meV.
    published : dict of str to dict
        Method -> test -> (energy, forces in meV/Å).
    source : str
    """

    train: str
    tests: dict
    measure: str = "mae"
    per_atom: bool = True
    published: dict = field(default_factory=dict)
    source: str = ""


def _mlearn(element, **published):
    return DataSet(
        f"mlearn/{element}_train",
        {"test": f"mlearn/{element}_test"},
        published={name: {"test": errors} for name, errors in published.items()},
        source="Zuo et al., J. Phys. Chem. A 124, 731 (2020)",
    )


SETS = {
    "Li": _mlearn(
        "Li", GAP=(0.49, 10), MTP=(0.49, 10.1), NNP=(0.77, 16.8), SNAP=(1.03, 27.7), qSNAP=(0.73, 32.8)
    ),
    "Si": _mlearn(
        "Si", GAP=(2.91, 70), MTP=(2.31, 56.0), NNP=(5.60, 108.6), SNAP=(6.44, 132.7), qSNAP=(3.81, 115.7)
    ),
    "Ni": _mlearn(
        "Ni", GAP=(0.42, 20), MTP=(0.48, 14.0), NNP=(1.58, 30.2), SNAP=(0.78, 37.7), qSNAP=(0.78, 30.8)
    ),
    "ethanol": DataSet(
        "rmd17/ethanol_train_01",
        {"test": "rmd17/ethanol_test_01"},
        per_atom=False,
        published={"ACE": {"test": (1.2, 7.3)}, "FCHL": {"test": (0.9, 6.2)}, "MACE": {"test": (0.4, 2.1)}},
        source="Batatia et al., NeurIPS 2022 (1000 training frames)",
    ),
    "3bpa": DataSet(
        "3bpa/train_300K",
        {"300 K": "3bpa/test_300K", "600 K": "3bpa/test_600K"},
        measure="rmse",
        per_atom=False,
        published={
            "ACE": {"300 K": (7.1, 27.1), "600 K": (24.0, 64.3)},
            "MACE": {"300 K": (3.0, 8.8), "600 K": (9.7, 21.8)},
        },
        source="Batatia et al., NeurIPS 2022",
    ),
    "water": DataSet("water/train", {"test": "water/valid"}),
    "nbmotaw": DataSet("nbmotaw/NbMoTaW_train_noSQS", {"test": "nbmotaw/NbMoTaW_test"}),
}
