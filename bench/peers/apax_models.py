"""apax: small models of every form that `fd.read_apax` reads, trained for two epochs, with apax's own numbers.

Run by the Python of the peers: `python bench/peers/apax_models.py FOLDER`. Below FOLDER every model has its directory,
and numbers.json holds what apax finds for frames without cell, in float64.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import orbax.checkpoint as ocp
import yaml
from apax.md.ase_calc import ASECalculator
from apax.train.checkpoints import load_params
from apax.train.run import run
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

EXACT = {"descriptor_dtype": "fp64", "readout_dtype": "fp64", "scale_shift_dtype": "fp64"}
SMALL = {"name": "gmnn", "nn": [8, 6], "n_radial": 2, "basis": {"name": "bessel", "n_basis": 4, "r_max": 5.0}}
MODELS = {
    "bessel": SMALL,
    "gaussian": {**SMALL, "basis": {"name": "gaussian", "n_basis": 4, "r_max": 5.0}, "use_ntk": True, "n_contr": 6},
    "softplus": {**SMALL, "activation_fn": "softplus", "n_radial": 3},
    "bare": {**SMALL, "emb_init": None, "activation_fn": "tanh"},
    "shallow": {**SMALL, "ensemble": {"kind": "shallow", "n_members": 4}},
    "full": {**SMALL, "ensemble": {"kind": "full", "n_members": 2}},
    "float32": {**SMALL, "n_radial": 5, "descriptor_dtype": "fp32", "readout_dtype": "fp32"},
}


def clusters(n):
    """Random clusters of Cu and Au with energies and forces of EMT."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(n):
        sites = np.array([[x, y, z] for x in range(3) for y in range(2) for z in range(2)]) * 2.6
        atoms = Atoms(rng.permutation(["Cu", "Au"] * 6), sites + 0.15 * rng.normal(size=sites.shape))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def sparse(folder):
    """Set radial coefficients of elements that no frame has to zero, so that a directory is small; biases not."""
    params = jax.tree.map(np.array, load_params(folder))
    own = params["params"].get("energy_model", params["params"])
    table = own.get("representation", {}).get("radial_fn", {}).get("atomic_type_embedding")
    rng = np.random.default_rng(1)
    for layer in own["readout"].values():    # zero after so few steps, which would hide a mistake
        layer["b"] = (layer["b"] + 0.1 * rng.normal(size=layer["b"].shape)).astype(layer["b"].dtype)
    if table is not None:
        axis = table.ndim - 4
        keep = np.zeros_like(table)
        pairs = np.ix_(*(range(n) for n in table.shape[:axis]), [29, 79], [29, 79])
        keep[pairs] = table[pairs]
        own["representation"]["radial_fn"]["atomic_type_embedding"] = keep
    shutil.rmtree(folder / "best")
    with ocp.CheckpointManager((folder / "best").resolve()) as manager:
        manager.save(1, args=ocp.args.StandardSave({"model": {"params": params, "step": 0}, "epoch": 1}))


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    frames = clusters(14)
    write(folder / "train.extxyz", frames[:8])
    write(folder / "valid.extxyz", frames[8:12])
    numbers = {"frames": [{"numbers": a.numbers.tolist(), "positions": a.positions.tolist()} for a in frames[12:]]}
    for name, model in MODELS.items():
        data = {
            "directory": str(folder), "experiment": name, "train_data_path": str(folder / "train.extxyz"),
            "val_data_path": str(folder / "valid.extxyz"), "batch_size": 4, "valid_batch_size": 4,
        }  # fmt: skip
        loss = [{"name": "energy"}, {"name": "forces"}]
        run({"n_epochs": 2, "seed": 1, "data": data, "model": {**EXACT, **model}, "loss": loss})
        sparse(folder / name)
        file = folder / name / "config.yaml"
        config = yaml.safe_load(file.read_text())
        config["data"] |= {"directory": ".", "train_data_path": "train.extxyz", "val_data_path": "valid.extxyz"}
        file.write_text(yaml.safe_dump(config))
        calculator = ASECalculator(folder / name)
        numbers[name] = []
        for atoms in frames[12:]:
            calculator.calculate(atoms, ["energy", "forces"])
            found = calculator.results
            energies = found.get("energy_ensemble", found["energy"])
            forces = np.moveaxis(found["forces_ensemble"], -1, 0) if model.get("ensemble") else found["forces"]
            numbers[name].append({"energy": np.asarray(energies).tolist(), "forces": np.asarray(forces).tolist()})
    (folder / "numbers.json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    main(sys.argv[1])
