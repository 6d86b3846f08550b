"""The state of a trainer: what a checkpoint holds, and a run that goes on from it exactly."""

from dataclasses import replace

from fastdesc.backend.arrays import to_device
from fastdesc.checks import numbers
from fastdesc.errors import InputError
from fastdesc.hdf5.files import damage_named
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.training.checkpoint import check_settings
from fastdesc.training.history import History
from fastdesc.training.identity import check_identity
from fastdesc.training.optimizer import WeightMean
from fastdesc.training.settings import Settings


def state_of(trainer):
    """Everything that continuing needs, as nested dicts of arrays and plain values."""
    return {
        "settings": trainer.settings.as_dict(),
        "run": trainer.run_of,
        "epoch": trainer.epoch,
        "step": trainer.step,
        "judged": trainer.judged,
        "seconds": trainer.seconds,
        "generator": trainer.part.get("generator") or trainer.rng.bit_generator.state,
        "part": {name: value for name, value in trainer.part.items() if name != "generator"},
        "history": trainer.history.rows,
        "parameters": trainer.parameters,
        "optimizer": trainer.optimizer.state_dict(),
        "average": trainer.average.state_dict() if trainer.average is not None else {},
        "skipped": trainer.skipped,
        "mean": trainer.mean.state_dict() if trainer.mean is not None else {},
        "plateau": trainer.plateau.state_dict() if trainer.plateau is not None else {},
        "best": trainer.best or {},
        "further": trainer.further,
        "before": trainer.before,
        "pulled_to": trainer.pull.start if trainer.pull is not None else {},
        "best_loss": trainer.best_loss,
        "best_epoch": trainer.best_epoch,
        "buffers": trainer.potential.buffers,
        "scaler": {"mean": trainer.potential.scaler.mean, "scale": trainer.potential.scaler.scale},
        "reference": trainer.potential.reference,
    }


def restore(trainer, state, path):
    """Continue from a state.

    Raises
    ------
    InputError
        When the state belongs to other settings or data; names the first difference.
    FileFormatError
        When parts of it are missing, or of another kind.
    """
    with damage_named(path, "start training anew"):
        _restore(trainer, state, path)


def _restore(trainer, state, path):
    def own(name, array, shape):
        return numbers(f"{name} of {path}", array, shape)

    # A setting younger than the file had no effect.
    older = {**Settings().as_dict(), "stress_limit": None}
    check_settings({**older, **state["settings"]}, trainer.settings.as_dict(), path)
    check_identity(state.get("run"), trainer.run_of, path)
    shapes = {name: a.shape for name, a in trainer.parameters.items()}
    for kind in ("parameters", "best"):
        if state[kind] and {name: a.shape for name, a in state[kind].items()} != shapes:
            raise InputError(f"{path} was made for another potential; use the same, or another checkpoint file")
    if trainer.timed:
        trainer.settings = replace(trainer.settings, epochs=state["settings"]["epochs"])
    trainer.epoch, trainer.step, trainer.seconds = int(state["epoch"]), int(state["step"]), float(state["seconds"])
    trainer.before = state.get("before", {})
    trainer.judged = int(state.get("judged", trainer.step if state["best"] else 0))
    trainer.rng.bit_generator.state = state["generator"]
    trainer.part = dict(state.get("part", {}))
    if trainer.part:
        trainer.part["metrics"] = own("metrics", trainer.part["metrics"], (3, 3))
    trainer.history = History(state["history"])
    trainer.data.check_restored(trainer.parameters, state["parameters"], path)
    for name, array in trainer.parameters.items():
        array[...] = to_device(own(name, state["parameters"][name], array.shape), trainer.device)
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.pull is not None:
        trainer.pull.load_state_dict(state["pulled_to"], path)
    if trainer.average is not None:
        trainer.average.load_state_dict(state["average"])
    trainer.skipped = int(state.get("skipped", 0))
    if state.get("mean"):
        trainer.mean = WeightMean(trainer.parameters)
        trainer.mean.load_state_dict(state["mean"])
    if trainer.plateau is not None:
        trainer.plateau.load_state_dict(state["plateau"])
    best = {name: own(name, a, shapes[name]) for name, a in state["best"].items()}
    trainer.best = {name: to_device(a, trainer.device) for name, a in best.items()} or None
    trainer.best_loss, trainer.best_epoch = float(state["best_loss"]), int(state["best_epoch"])
    n = (trainer.potential.descriptor.n_features,)
    trainer.potential.scaler = FeatureScaler(*(own(name, state["scaler"][name], n) for name in ("mean", "scale")))
    trainer.potential.set_buffers(state.get("buffers", {}))
    trainer.potential.reference = own("reference", state["reference"], trainer.potential.reference.shape)
