"""How many labels of each kind count in the loss, checked before training: for each set of frames and each term."""

import warnings

from fastdesc.errors import FastdescWarning, InputError
from fastdesc.training.settings import Settings

TERMS = (("energy", "energy_weight", "an energy"), ("forces", "force_weight", "forces"),
         ("stress", "stress_weight", "a stress in a cell that is periodic in all directions"))  # fmt: skip
"""Label, setting, and what a frame must carry to count."""


def check_label_counts(train, valid, weights):
    """Refuse a loss in which nothing counts; warn of terms that one set has and the other lacks.

    Parameters
    ----------
    train, valid : TrainingSet or FeatureSet; `valid` may be None
    weights : LossWeights

    Raises
    ------
    InputError
        When no label of a set has a weight above 0, of its term and of its frame.
    """
    given = {"energy": weights.energy, "forces": weights.force, "stress": weights.stress}
    sets = {"training": train.counts()} | ({} if valid is None else {"validation": valid.counts()})
    for purpose, counts in sets.items():
        if not any(given[name] > 0 and counts[name] for name, *_ in TERMS):
            reasons = [
                f"{setting} is 0" if given[name] == 0 else f"no frame with a weight above 0 has {words}"
                for name, setting, words in TERMS
            ]
            raise InputError(
                f"nothing counts in the loss on the {purpose} frames: {'; '.join(reasons)}. Give labels, or weights"
            )
    for name, setting, words in TERMS:
        if given[name] == 0:
            continue
        have = {purpose for purpose, counts in sets.items() if counts[name]}
        if "training" not in have and given[name] != getattr(Settings(), setting):
            _warn(f"{setting} is {given[name]:g} and has no effect: no training frame has {words}")
        elif have == {"training"} and valid is not None:
            _warn(f"no validation frame has {words}: errors in the {name} do not decide which epoch is the best")
        elif have == {"validation"}:
            _warn(f"validation frames have {words} and no training frame does: the {name} cannot be learnt")


def _warn(text):
    warnings.warn(text, FastdescWarning, stacklevel=4)
