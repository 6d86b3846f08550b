"""featomic: SOAP power spectrum with 8 radial functions and l = 6, values and derivatives."""

import os

from bench.harness.serve import n_threads, pin, serve

pin()
os.environ["RAYON_NUM_THREADS"] = str(n_threads())

from importlib.metadata import version  # noqa: E402

import featomic  # noqa: E402

from bench.harness import systems  # noqa: E402


def power_spectrum(cutoff):
    return featomic.SoapPowerSpectrum(
        cutoff={"radius": cutoff, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
        density={"type": "Gaussian", "width": 0.5},
        basis={"type": "TensorProduct", "max_angular": 6, "radial": {"type": "Gto", "max_radial": 7}},
    )


def about(frames, values, **more):
    features = sum(block.values.shape[-1] for block in values.blocks())
    return {
        "program": f"featomic {version('featomic')}",
        "n_atoms": sum(map(len, frames)),
        "n_features": features,
        "dtype": "float64",
        "device": "cpu",
        "lists": "inside",
        **more,
    }


def descriptor(system="cu256", cutoff=6.0, gradients=()):
    """Values; with gradients=["positions"] also derivatives. Neighbours are found anew inside, as users get it."""
    frames = systems.frames(system)
    model = power_spectrum(cutoff)
    call = lambda: model.compute(frames, gradients=list(gradients))  # noqa: E731
    # Features of all pairs of elements, as a user would put them into one matrix.
    dense = call().keys_to_properties(["neighbor_1_type", "neighbor_2_type"])
    return call, about(frames, dense.keys_to_samples("center_type"))


def jacobian(system="cu256", cutoff=6.0):
    return descriptor(system, cutoff, gradients=("positions",))


serve({"descriptor": descriptor, "jacobian": jacobian})
