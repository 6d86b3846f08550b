"""The label of one structure, in a file of its own, or why there is none."""

import os
import shutil
from pathlib import Path

from fastdesc.errors import InputError
from fastdesc.hdf5.files import write_text
from fastdesc.learn.calculators import labelled
from fastdesc.learn.files import write_frames


def label_one(folder, k, atoms, calculator, largest_force):
    """Write the result of structure k, or why there is none."""
    result, failure = (folder / f"{k:05d}.{end}" for end in ("extxyz", "failed"))
    scratch = folder / f"{k:05d}.run"
    shutil.rmtree(scratch, ignore_errors=True)    # of a run that was ended
    scratch.mkdir()
    before = Path.cwd()
    os.chdir(scratch)    # calculators that call programs leave their files here
    try:
        out = labelled(atoms, calculator, largest_force)
    except InputError as error:
        write_text(failure, f"{error}\n")
    else:
        write_frames(result, [out])
    finally:
        os.chdir(before)
    if result.exists():
        shutil.rmtree(scratch, ignore_errors=True)


def done(folder, k):
    """Whether structure k has a result."""
    return (folder / f"{k:05d}.extxyz").exists() or (folder / f"{k:05d}.failed").exists()
