"""One damaged frame costs one frame, in plain and in extended XYZ; vectors of the cell after the atoms are read."""

import io
import tracemalloc

import numpy as np
import pytest
from helpers.featurizing import Fake

from fastdesc.errors import FileFormatError
from fastdesc.features import featurize, open_features, read_frames
from fastdesc.io import extxyz_split

EXTENDED = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-1.5 step={}'
COMMENTS = {    # the last is as long as a line of an atom
    "extended": EXTENDED, "plain": "step {}", "numbers": "{}", "empty": "", "LAMMPS": " Atoms. Timestep: {}",
    "a row of numbers": "{}.5 1.5 -2.5 3.5",
}  # fmt: skip
HURT = 3
DAMAGE = {
    "an atom is missing": lambda f: f[:3] + f[4:],
    "two atoms are missing": lambda f: f[:2] + f[4:],
    "all atoms are missing": lambda f: f[:2],
    "only the number is there": lambda f: f[:1],
    "the comment is missing": lambda f: f[:1] + f[2:],
    "a line too many": lambda f: [*f, "Cu 1 1 1"],
    "two lines too many": lambda f: [*f, "Cu 1 1 1", "Cu 1 1 2"],
    "zeros for a line": lambda f: [*f[:3], "\0" * len(f[3]), *f[4:]],
    "zeros for two lines": lambda f: [*f[:3], "\0" * 27, *f[5:]],
    "zeros for the number": lambda f: ["\0", *f[1:]],
    "a byte that is no text": lambda f: [*f[:3], f[3] + " \udcff", *f[4:]],
    "stars": lambda f: [*f[:3], "Cu 1 ******* 2", *f[4:]],
    "a huge number of atoms": lambda f: ["999999999", *f[1:]],
    "a negative number of atoms": lambda f: ["-3", *f[1:]],
    "one atom more promised": lambda f: ["4", *f[1:]],
    "one atom less promised": lambda f: ["2", *f[1:]],
    "a restart in the middle": lambda f: [*f[:3], *f],
    "a restart in a line": lambda f: [*f[:3], f[3][:6], *f],
    "a restart after the comment": lambda f: [*f[:2], *f],
}


def frame(k, comment, n=3):
    return [str(n), comment.format(k), *(f"Cu {k}.25 {j}.5 0.125" for j in range(n))]


@pytest.mark.parametrize("suffix", ["xyz", pytest.param("xyz.gz", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("comment", COMMENTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_one_damaged_frame_costs_one(tmp_path, comment, damage, suffix):
    """Ten frames, the fourth one hurt: the others are found, each as it was written."""
    import gzip

    lines = [line for k in range(10) for line in (DAMAGE[damage] if k == HURT else list)(frame(k, COMMENTS[comment]))]
    path = tmp_path / f"x.{suffix}"
    data = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with open_features(featurize(path, tmp_path / "f.h5", Fake(), on_error="skip", progress=False)) as f:
        first = [float(f[k][0, 0]) - 0.25 for k in range(len(f))]
        assert all(len(f[k]) == 3 for k in range(len(f)))
        if "restart" in damage:    # the second copy of the hurt frame is whole
            assert first == list(range(10)) and len(f.skipped) == 1
        else:
            assert first == [k for k in range(10) if k != HURT] and len(f.skipped) in (1, 2)
        assert len(f.skipped) == 1 or comment in ("numbers", "a row of numbers")
        assert f.skipped[0]["index"] == HURT
    with pytest.raises(FileFormatError, match=r"x\.xyz"):
        read_frames(path)


def test_both_ways_through_a_file_agree(tmp_path):
    """The quick one, by bytes, and the careful one, by lines: the same frames and the same words."""
    rng = np.random.default_rng(0)
    path = tmp_path / "x.xyz"
    for _ in range(400):
        comment = list(COMMENTS.values())[rng.integers(len(COMMENTS))]
        sizes = rng.choice([1, 2, 3, 5], 6)
        hurt, damage = rng.integers(6), list(DAMAGE.values())[rng.integers(len(DAMAGE))]
        lines = []
        for k, n in enumerate(sizes):
            lines += damage(frame(k, comment, n)) if k == hurt and n == 3 else frame(k, comment, n)
        data = ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")
        path.write_bytes(data)
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
        quick, careful = extxyz_split.Blocks(path), extxyz_split._blocks(text, path, 0)
        assert [str(x) for x in quick] == [str(x) for x in careful]


def test_a_huge_number_of_atoms_is_not_waited_for(tmp_path):
    """What a file of this size cannot hold is not looked for byte by byte."""
    path = tmp_path / "x.xyz"
    path.write_text("\n".join(["999999999", *frame(0, "step {}")[1:], *frame(1, "step {}")]) + "\n")
    error, good = extxyz_split.Blocks(path)
    assert "promises 999999999 atoms and 3 follow before the next frame" in str(error) and good[1] == 3


# --- vectors of the cell after the atoms (AMS)


def test_vectors_after_the_atoms(tmp_path):
    """One for a chain, two for a slab, three for a crystal: the file says so, line by line."""
    vectors = np.array([[3.0, 0, 0], [0.5, 4.0, 0], [0, 0.25, 5.0]])
    lines = []
    for n in (3, 2, 1, 0, 3):
        lines += ["2", "from AMS", "Cu 0 0 0", "Cu 0 0 2.5"]
        lines += [f"VEC{k + 1} " + " ".join(map(str, vectors[k])) for k in range(n)]
    path = tmp_path / "x.xyz"
    path.write_text("\n".join(lines) + "\n")
    got = read_frames(path)
    assert [len(a) for a in got] == [2] * 5
    for atoms, n in zip(got, (3, 2, 1, 0, 3), strict=True):
        assert atoms.pbc.tolist() == [k < n for k in range(3)]
        np.testing.assert_array_equal(atoms.cell.array[:n], vectors[:n])
        assert not atoms.cell.array[n:].any()


@pytest.mark.parametrize("wrong", ["VEC2 3 0 0", "VEC1 3 0", "VEC1 3 0 x", "VEC1 3 0 0\nVEC1 3 0 0"])
def test_vectors_that_cannot_be_read_cost_the_frame(tmp_path, wrong):
    path = tmp_path / "x.xyz"
    path.write_text(f"1\na\nCu 0 0 0\n{wrong}\n1\nb\nCu 1 0 0\n")
    with open_features(featurize(path, tmp_path / "f.h5", Fake(), on_error="skip", progress=False)) as f:
        assert f[:].tolist() == [[1.0, 0.0]] and len(f.skipped) == 1
    path.write_text(f"1\n{EXTENDED}\nCu 0 0 0\nVEC1 3 0 0\nVEC2 0 3 0\nVEC3 0 0 3\n")
    with pytest.raises(FileFormatError, match="has a Lattice and lines VEC, which is one cell too many"):
        read_frames(path)


@pytest.mark.parametrize("columns", ["99999999", "1e9", "-1", "0", "9" * 5000, "x"])
def test_columns_by_the_million(tmp_path, columns):
    """No memory is made for what a header promises."""
    path = tmp_path / "x.xyz"
    path.write_text(f"1\nProperties=species:S:1:pos:R:{columns}\nCu 0 0 0\n")
    with pytest.raises(FileFormatError, match=r"'pos' has .* columns; 1 to 100000 are allowed"):
        read_frames(path)


def test_text_under_the_name_of_a_result(tmp_path):
    """It is info, as under any other name."""
    path = tmp_path / "x.extxyz"
    path.write_text('1\nProperties=species:S:1:pos:R:3 dipole="0.5 none 1" energy=-1.5\nCu 0 0 0\n')
    (atoms,) = read_frames(path)
    assert atoms.info == {"dipole": "0.5 none 1"} and atoms.calc.results == {"energy": -1.5}


def test_no_memory_for_atoms_that_are_not_there(tmp_path):
    """1e9 atoms, less one, promised in a file of 4 MB; 3e5 lines follow."""
    path = tmp_path / "x.xyz"
    path.write_text("999999999\nstep\n" + "Cu 1.5 2.5 3.5\n" * 300_000)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="promises 999999999 atoms and 300000 follow"):
            read_frames(path)
        assert tracemalloc.get_traced_memory()[1] < 20 * path.stat().st_size
    finally:
        tracemalloc.stop()
