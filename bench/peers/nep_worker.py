"""NEP's C++ (nep-adapters): energies, forces and virials of NEP89, the published potential of 89 elements.

Its list is found anew in every call, as NEP does; arrays are prepared beforehand. The model file comes with the package
mdescriptor, of which nothing else is used.
"""

from bench.harness.serve import n_threads, pin, serve

pin()

from importlib.metadata import version  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from nep_adapters import NEPCalculator  # noqa: E402

from bench.harness import systems  # noqa: E402


def model_file():
    """Path of NEP89; FileNotFoundError where mdescriptor is not installed, or holds it no more."""
    found = find_spec("mdescriptor")
    places = found.submodule_search_locations if found is not None else ()
    files = sorted(path for place in places for path in Path(place).rglob("nep89*.txt"))
    if not files:
        raise FileNotFoundError("mdescriptor with nep89*.txt is not installed: bench/peers/make_env.py installs it")
    return files[0]


def energy_forces(system="cu256"):
    """Energies, forces and virials of all frames, lists found inside."""
    frames, calculator = systems.frames(system), NEPCalculator(model_file(), backend="cpu")
    given = *calculator.compose_structures(frames)[:3], np.array([len(atoms) for atoms in frames], np.int32)
    pbc = calculator.compose_structures(frames)[3]
    info = {
        "program": f"nep-adapters {version('nep-adapters')}",
        "n_atoms": systems.n_atoms(system),
        "model": model_file().name,
        "dtype": "float64",
        "device": "cpu",
        "threads": n_threads(),
        "energy": float(np.sum(calculator.predict_arrays(*given, pbc).energy)),
    }
    return lambda: calculator.predict_arrays(*given, pbc), info


serve({"energy_forces": energy_forces})
