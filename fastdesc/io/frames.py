"""Frames in: anything ASE reads becomes a list of ase.Atoms."""

import glob
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from fastdesc.errors import FileFormatError, InputError
from fastdesc.io.extxyz import iread_extxyz
from fastdesc.io.labels import full_stress, is_virial, label_keys, label_of_name, stress_of_virial
from fastdesc.types import Frames

LARGE = 1 << 28
"""Bytes of a file that may need more memory than there is."""
EXTXYZ = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")


def read_frames(
    source: Frames, *, energy_key: str | None = None, forces_key: str | None = None, stress_key: str | None = None
) -> list[Atoms]:
    """Read frames and their labels.

    Parameters
    ----------
    source : str, Path, ase.Atoms or list of ase.Atoms
        A file ASE can read (extended XYZ, also gzipped, in linear time), one that `fastdesc convert` wrote, or a
        glob of them; or frames, handed back as they are.
    energy_key, forces_key, stress_key : str, optional
        Names of the labels in ``atoms.info`` (energy, stress) and ``atoms.arrays`` (forces) when a file uses its own,
        such as ``REF_energy``; they replace labels of the standard names. A stress under a name such as
        "virial" or "dft_virial" is taken as one: stress = -virial / volume.

    Returns
    -------
    list of ase.Atoms
        Labels in a SinglePointCalculator: eV, eV/Å, eV/Å^3, ASE's signs.

    Raises
    ------
    InputError
        For a missing file, an empty list, or a key that no frame has.
    FileFormatError
        For an empty, truncated or unreadable file.
    """
    keys = label_keys(energy_key, forces_key, stress_key)
    frames = list(iread_frames(source))
    return _relabelled(frames, keys, source) if keys else frames


def iread_frames(source: Frames) -> Iterator[Atoms]:
    """Yield the frames of `read_frames` one after another, without holding all of them in memory where possible."""
    if isinstance(source, Atoms):
        yield source
    elif isinstance(source, str | Path):
        for path in expand(source):
            yield from _from_file(path)
    else:
        yield from _from_list(source)


def _from_list(source):
    allowed = "frames must be an ase.Atoms, a list of them or a path"
    try:
        frames = list(source)
    except TypeError:    # arrays without dimensions only look like a list
        raise InputError(f"{allowed}, and a {type(source).__name__} arrived") from None
    if frames and all(isinstance(f, str | Path) for f in frames):
        for path in frames:
            yield from iread_frames(path)
        return
    for k, atoms in enumerate(frames):
        if not isinstance(atoms, Atoms):
            raise InputError(f"{allowed}, and member {k} of the {type(source).__name__} is a {type(atoms).__name__}")
    if not frames:
        raise InputError("the list of frames is empty; give at least one ase.Atoms")
    yield from frames


def expand(path):
    """Return the files of a path, which may be a glob, in alphabetical order.

    Raises
    ------
    InputError
        When no file matches.
    """
    path = Path(path)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True))
    if not found:
        raise InputError(f"no file matches {path}; check the pattern and the folder")
    return [Path(name) for name in found]


def check_file(path):
    """InputError or FileFormatError unless there is a file with something in it."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file of frames in it")
    if not path.is_file():
        raise InputError(f"{path} is a pipe or a device, and frames are read from files; write it into one first")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{path} is empty; it should hold at least one frame")


def _from_file(path):
    check_file(path)
    n = 0
    for atoms in _reader(path)(path):
        yield atoms
        n += 1
    if n == 0:
        raise FileFormatError(f"{path} holds no frames; it should hold at least one")


def _reader(path):
    if path.name.lower().endswith(EXTXYZ):
        return iread_extxyz
    # h5py is imported for files that need it only
    if path.suffix.lower() in (".h5", ".hdf5"):
        from fastdesc.io.frames_file import is_frames_file

        if is_frames_file(path):
            return _iread_own
    return iread_ase


def _iread_own(path):
    from ase.constraints import dict2constraint

    from fastdesc.hdf5.files import damage_named
    from fastdesc.hdf5.info import alive
    from fastdesc.io.frames_file import iread_frames_file

    for stored in iread_frames_file(path):
        frame = stored.as_dict()
        atoms = Atoms(frame["numbers"], positions=frame["positions"], cell=frame["cell"], pbc=frame["pbc"])
        atoms.info.update(alive(frame["info"]))
        results = {name: frame[name] for name in ("energy", "forces", "stress") if frame[name] is not None}
        if np.isnan(frame["forces"]).all():
            results.pop("forces", None)
        results |= alive(frame["results"])
        for name, array in frame["arrays"].items():
            atoms.set_array(name, array)
        with damage_named(path):
            atoms.set_constraint([dict2constraint(c) for c in frame["constraints"]])
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms


def iread_ase(path):
    """Yield the frames of a file in any format of ASE's, whose failures become FileFormatError."""
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    try:
        # The whole path, and no part of it an index: "a@1.traj", "-" and "postgres.traj" are names of files here.
        yield from ase.io.iread(str(Path(path).absolute()), index=":", do_not_split_by_at_sign=True)
    except UnknownFileTypeError as error:
        raise FileFormatError(
            f"{path} is of no format ASE knows; use extended XYZ (.xyz, .extxyz, also .gz) or another ASE format"
        ) from error
    except OSError as error:
        if error.filename is not None:
            raise
        raise FileFormatError(_unreadable(path, error)) from error
    except GeneratorExit:
        raise
    except MemoryError as error:
        if Path(path).stat().st_size > LARGE:
            raise
        reason = f"{path} asks for more memory than there is, and is small"
        raise FileFormatError(f"{reason}; check that it is complete") from error
    except ImportError as error:    # of a package that some formats need
        raise FileFormatError(f"{path} cannot be read by ASE: {error}; install that, or convert the file") from error
    except Exception as error:    # every reader of ASE has failures of its own
        raise FileFormatError(_unreadable(path, error)) from error


def _unreadable(path, error):
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{path} could not be read by ASE ({type(error).__name__}: {reason}); check that it is complete"


def _relabelled(frames, keys, source):
    found = dict.fromkeys(keys, False)
    out = []
    for number, atoms in enumerate(frames):
        results = {} if atoms.calc is None else dict(getattr(atoms.calc, "results", {}))
        for name, key in keys.items():
            value = label_of_name(name, key, atoms.info, atoms.arrays, results, len(atoms), number)
            results.pop(name, None)
            if value is not None:
                results[name] = value
                found[name] = True
        if "stress" in results:
            results["stress"] = full_stress(results["stress"])
            if is_virial(keys.get("stress")):
                results["stress"] = stress_of_virial(results["stress"], atoms)
        new = atoms.copy()
        new.calc = SinglePointCalculator(new, **results)
        out.append(new)
    for name, key in keys.items():
        if not found[name]:
            where = "arrays" if name == "forces" else "info"
            known = sorted({k for atoms in frames for k in getattr(atoms, where)})
            what = "the frames" if not isinstance(source, str | Path) else source
            raise InputError(f"no frame of {what} has {key!r} for the {name}; atoms.{where} holds {known or 'nothing'}")
    return out


