"""What comment lines and columns mean, and what is refused because it means nothing; one such frame costs one frame.

Right values are those of the same frame written as ASE writes it.
"""

import os
from codecs import BOM_UTF8

import numpy as np
import pytest
from ase import Atoms

from fastdesc.errors import FileFormatError, InputError
from fastdesc.features import convert
from fastdesc.io.frames import read_frames
from fastdesc.io.labels import labels

CELL = 'Lattice="4 0 0 1 5 0 0 0 6"'
ROWS = "Cu 0 0 0\nAu 1.5 1.5 0\n"


def text(comment, rows=ROWS, properties="species:S:1:pos:R:3"):
    return f"2\n{comment} Properties={properties}\n{rows}"


def frame(tmp_path, *given, **named):
    path = tmp_path / "x.xyz"
    path.write_text(text(*given, **named))
    return read_frames(path)[0]


@pytest.mark.parametrize(
    ("pbc", "means"),
    [
        ("T", "TTT"), ("F", "FFF"), ('"T F T"', "TFT"), ('"1 0 1"', "TFT"), ('"true FALSE True"', "TFT"), ("0", "FFF"),
        ('".true. .false. .T."', "TFT"), ('"1.0 0.0 1"', "TFT"), ('"T,F,T"', "TFT"), ("[T,F,T]", "TFT"),
    ],
)  # fmt: skip
def test_periodicity_in_any_spelling(tmp_path, pbc, means):
    assert frame(tmp_path, f"{CELL} pbc={pbc}").pbc.tolist() == [x == "T" for x in means]


@pytest.mark.parametrize("pbc", ["maybe", "2", "None", '""', '"T T"', '"T T T T"', '"0.5 1 0"', '"xyz T T"'])
def test_no_periodicity_is_guessed(tmp_path, pbc):
    with pytest.raises(FileFormatError, match=r"line 1: pbc came as .*; it must be T or F, once or three times"):
        frame(tmp_path, f"{CELL} pbc={pbc}")


def test_keys_of_the_format_in_another_case(tmp_path):
    """A frame is never read without its cell because another program writes `lattice`."""
    columns = "pos:R:3:species:S:1:forces:R:3"
    rows = "0 0 0 Cu 1 2 3\n1.5 1.5 0 Au 4 5 6\n"
    want = frame(tmp_path, f'{CELL} pbc="T F T" energy=-1', rows, columns)
    path = tmp_path / "y.xyz"
    path.write_text(f'2\n{CELL.lower()} PBC="T F T" energy=-1 properties={columns}\n{rows}')
    got = read_frames(path)[0]
    for a, b in ((got.cell, want.cell), (got.pbc, want.pbc), (got.positions, want.positions)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(got.cell[1], [1, 5, 0])
    np.testing.assert_array_equal(got.get_forces(), [[1, 2, 3], [4, 5, 6]])
    assert str(got.symbols) == "CuAu" and got.info == {}


@pytest.mark.parametrize("word", ["lattice=fcc", "lattice=3.6", "PBC=some", 'properties="of copper"', "LATTICE"])
def test_what_only_looks_like_them_stays_as_it_is(tmp_path, word):
    atoms = frame(tmp_path, f"{CELL} {word}")
    assert list(atoms.info) == [word.split("=")[0]] and atoms.pbc.all()
    np.testing.assert_array_equal(atoms.cell[2], [0, 0, 6])


@pytest.mark.parametrize("more, left", [("", {}), (" free_energy=-2", {"free_energy": -2}), (" dipole", {})])
def test_a_single_word_is_no_label(tmp_path, more, left):
    """ASE takes `energy` alone for the value True, which is a number to NumPy: 1 eV."""
    atoms = frame(tmp_path, f"{CELL} step=3 energy of the surface{more}")
    assert np.isnan(labels([atoms]).energies).all()
    assert atoms.info["step"] == 3 and atoms.info["comment"].startswith("energy") and "surface" in atoms.info
    assert (atoms.calc.results if atoms.calc else {}) == left


@pytest.mark.parametrize(
    ("comment", "properties", "rows"),
    [
        ("energy=T", "species:S:1:pos:R:3", ROWS),
        ("energy=abc", "species:S:1:pos:R:3", ROWS),
        ('energy="1 2"', "species:S:1:pos:R:3", ROWS),
        ("", "species:S:1:pos:R:3:forces:L:3", "Cu 0 0 0 T T F\nAu 1 1 1 T T F\n"),
        ("", "species:S:1:pos:R:3:forces:S:3", "Cu 0 0 0 a b c\nAu 1 1 1 a b c\n"),
        ("", "species:S:1:pos:R:3:charges:S:1", "Cu 0 0 0 a\nAu 1 1 1 b\n"),
        ("", "species:S:1:pos:S:3", ROWS),
        ("", "species:S:1:pos:L:3", "Cu 0 0 1\nAu 1 1 1\n"),
        ("", "Z:I:1:pos:R:3", "999 0 0 0\n29 1 1 1\n"),
        ("", "Z:I:1:pos:R:3", "-1 0 0 0\n29 1 1 1\n"),
        ("", "Z:I:1:pos:R:3", f"{10**20} 0 0 0\n29 1 1 1\n"),
        ("", "Z:R:1:pos:R:3", "28.5 0 0 0\n29 1 1 1\n"),
        ("", "Z:I:3:pos:R:1", "1 1 1 0\n29 1 1 1\n"),
        ("", '""', ROWS),
        ('deep="_JSON ' + "[" * 100_000 + '"', "species:S:1:pos:R:3", ROWS),
    ],
)
def test_what_means_nothing_costs_its_frame(tmp_path, comment, properties, rows):
    good = text(f"{CELL} energy=-1")
    path = tmp_path / "x.xyz"
    path.write_text(2 * good + text(f"{CELL} {comment}", rows, properties) + 2 * good)
    out, skipped = convert(path, tmp_path / "x.h5", on_error="skip", progress=False, report=True)
    assert [one["index"] for one in skipped] == [2]
    assert labels(read_frames(out)).energies.tolist() == [-1] * 4
    with pytest.raises((FileFormatError, InputError)) as caught:
        labels(read_frames(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_labels_in_memory_are_judged_alike():
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2]])
    atoms.calc = SinglePointCalculator(atoms, energy=True)
    with pytest.raises(InputError, match=r"frame 0 has a label of the wrong shape or kind \(True is no number\)"):
        labels([atoms])


@pytest.mark.parametrize("suffix", ["xyz", "xyz.gz"])
def test_a_mark_at_the_beginning_is_passed_over(tmp_path, suffix):
    import gzip

    data = BOM_UTF8 + 3 * text(CELL).encode()
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert len(read_frames(path)) == 3


def test_pipes_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "x.xyz")
    for call in (read_frames, lambda path: convert(path, tmp_path / "x.h5", progress=False)):
        with pytest.raises(InputError, match=r"x.xyz is a pipe or a device, and frames are read from files"):
            call(tmp_path / "x.xyz")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "asks for more memory than there is, and is small; check that it is complete"),
        (ModuleNotFoundError("No module named 'netCDF4'"), "No module named 'netCDF4'; install that, or convert"),
    ],
)
def test_readers_of_other_formats_that_fail(tmp_path, monkeypatch, error, message):
    """A damaged .traj may ask for 8 EB."""

    def iread(*given, **named):
        raise error

    monkeypatch.setattr("ase.io.iread", iread)
    (tmp_path / "x.traj").write_bytes(b"- of Ulm")
    with pytest.raises(FileFormatError, match=message):
        read_frames(tmp_path / "x.traj")
