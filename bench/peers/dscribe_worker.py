"""DScribe: SOAP with n = 8, l = 6, values and (without periodic boundaries) analytical derivatives."""

from bench.harness.serve import pin, serve

pin()

from importlib.metadata import version  # noqa: E402

import numpy as np  # noqa: E402
from dscribe.descriptors import SOAP  # noqa: E402

from bench.harness import systems  # noqa: E402


def soap(frames, cutoff):
    numbers = sorted({int(z) for atoms in frames[:1] for z in atoms.numbers})
    return SOAP(species=numbers, periodic=bool(frames[0].pbc.any()), r_cut=cutoff, n_max=8, l_max=6, sigma=0.5)


def about(frames, features, **more):
    return {
        "program": f"dscribe {version('dscribe')}",
        "n_atoms": sum(map(len, frames)),
        "n_features": features,
        "dtype": "float64",
        "device": "cpu",
        **more,
    }


def descriptor(system="cu256", cutoff=6.0):
    """Values of all frames; DScribe finds its own neighbours inside (it has no other way)."""
    frames = systems.frames(system)
    model = soap(frames, cutoff)
    given = frames if len(frames) > 1 else frames[0]
    return lambda: model.create(given, n_jobs=1), about(frames, model.get_number_of_features(), lists="inside")


def jacobian(system="ethanol20", cutoff=6.0):
    """Values and derivatives; numerical ones, which DScribe takes for periodic frames, are not worth timing here."""
    frames = systems.frames(system)
    if frames[0].pbc.any():
        raise ValueError("DScribe has numerical derivatives alone for periodic frames: ~0.1 s per atom, not timed")
    model = soap(frames, cutoff)
    values, _ = model.derivatives(frames[0], method="analytical", return_descriptor=True)
    info = about(frames, int(np.shape(values)[-1]), lists="inside")
    return lambda: [model.derivatives(a, method="analytical", return_descriptor=True) for a in frames], info


serve({"descriptor": descriptor, "jacobian": jacobian})
