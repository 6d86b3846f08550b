"""Frames and tables of a loop on disk: each file is there whole, or not at all."""

import json

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_xyz

from fastdesc.hdf5.files import to_json, whole_or_nothing, write_text
from fastdesc.io.frames import read_frames
from fastdesc.io.labels import stored_results

LABELS = ("energy", "forces", "stress")


def write_frames(path, frames):
    """Write frames as extended XYZ; an empty file where there are none."""
    with whole_or_nothing(path) as part, open(part, "w", encoding="utf-8") as file:
        if frames:
            write_xyz(file, frames)


def plain(atoms):
    """A structure with what training takes of it, and nothing else: labels, and its weight in the loss."""
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if "weight" in atoms.info:
        out.info["weight"] = atoms.info["weight"]
    found = {name: x for name, x in stored_results(atoms).items() if name in LABELS and x is not None}
    if found:
        out.calc = SinglePointCalculator(out, **found)
    return out


def read_some(path):
    """Frames of a file that `write_frames` wrote, also where there are none."""
    return read_frames(path) if path.stat().st_size else []


def join_files(path, parts):
    """Write the contents of text files, one after another."""
    with whole_or_nothing(path) as whole, open(whole, "wb") as file:
        for part in parts:
            file.write(part.read_bytes())


def write_table(path, table):
    """Write a dict of plain values as JSON."""
    write_text(path, json.dumps(json.loads(to_json(table)), indent=1, ensure_ascii=False) + "\n")


def read_table(path):
    """Read what `write_table` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
