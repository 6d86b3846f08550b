"""What a model file says of its training."""

import platform

import numba
import numpy as np


def training_record(trainer):
    """Frames, errors of what is kept, time, settings and versions of a run, as a dict of plain values."""
    frames = {"frames": trainer.data.report}
    if trainer.valid is not None:
        frames["validated_on"] = trainer.valid.report
    return {
        **frames,
        "errors": trainer.kept,
        "time": {"epochs_trained": trainer.epoch, "training_seconds": round(trainer.seconds, 1)},
        "settings": trainer.settings.as_dict(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__},
    }
