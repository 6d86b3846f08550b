"""Reading frames: what comes back, and how each broken file is named."""

import gzip
import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from helpers.labelled_frames import labelled

import fastdesc as fd
from fastdesc.errors import FileFormatError, InputError
from fastdesc.io import extxyz_split
from fastdesc.io.frames import iread_frames, read_frames
from fastdesc.io.sources import elements


@pytest.fixture
def xyz(tmp_path):
    path = tmp_path / "cu.extxyz"
    write(path, labelled())
    return path


def same(a, b):
    assert a == b
    assert set(a.arrays) == set(b.arrays) and set(a.info) == set(b.info)
    for name in a.calc.results:
        np.testing.assert_array_equal(a.calc.results[name], b.calc.results[name])


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "extxyz.gz", "xyz.gz"])
def test_extended_xyz_equals_ase(tmp_path, suffix):
    path = tmp_path / f"frames.{suffix}"
    frames = labelled()
    frames[1].info.update(name="a b", temperature=300.0, step=3)
    frames[1].set_array("tags", np.arange(len(frames[1])))
    frames[2].set_array("move", np.ones(len(frames[2]), bool))
    molecule_ = molecule("CH3CH2OH")
    molecule_.calc = SinglePointCalculator(molecule_, energy=-1.5)
    write(path, [*frames, molecule_], format="extxyz")
    ours, ase = read_frames(path), read(path, ":", format="extxyz")
    assert len(ours) == len(ase) == 4
    for a, b in zip(ours, ase, strict=True):
        same(a, b)


def test_plain_xyz_and_blank_lines(tmp_path):
    path = tmp_path / "w.xyz"
    one = "2\n\nH 0 0 0\nO 0 0 0.97\n"
    path.write_text(one + "\n\n" + one + "\n")
    frames = read_frames(path)
    assert [f.get_chemical_formula() for f in frames] == ["HO", "HO"]
    assert not frames[0].pbc.any() and frames[0].calc is None


@pytest.mark.parametrize("name", ["cu.traj", "cu.json", "POSCAR"])
def test_any_format_of_ase(tmp_path, name):
    path = tmp_path / name
    atoms = labelled()[0]
    write(path, atoms)
    (back,) = read_frames(str(path))
    np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-7)


def test_frames_in_hand():
    frames = labelled()
    assert read_frames(frames)[1] is frames[1]
    assert read_frames(frames[0]) == [frames[0]]
    assert read_frames(tuple(frames)) == frames


def test_reading_is_a_stream(tmp_path, xyz):
    """The first frame arrives although the file breaks later."""
    broken = tmp_path / "broken.extxyz"
    broken.write_text(xyz.read_text() + "seven\n")
    assert next(iread_frames(broken)) == read(xyz, 0)
    with pytest.raises(FileFormatError, match=r"broken.extxyz, line 23: expected the number of atoms.*'seven'"):
        read_frames(broken)


def test_reading_is_linear_in_size(tmp_path):
    """Bytes pulled from the gzip stream grow as the frames do: no frame is read twice."""
    frames = labelled(n=2)
    for n in (2, 20):
        path = tmp_path / f"{n}.extxyz.gz"
        write(path, frames * (n // 2), format="extxyz")
    import fastdesc.io.extxyz_split as module

    counts, original = [], module.gzip.open

    class Counted:
        def __init__(self, f):
            self.f, self.n = f, 0

        def __enter__(self):
            return self

        def __exit__(self, *rest):
            counts.append(self.n)
            self.f.close()

        def read1(self, n):
            piece = self.f.read1(n)
            self.n += len(piece)
            return piece

        def readinto(self, buffer):
            n = self.f.readinto(buffer)
            self.n += n
            return n

    module.gzip.open = lambda *args: Counted(original(*args))
    try:
        for n in (2, 20):
            assert len(read_frames(tmp_path / f"{n}.extxyz.gz")) == n
    finally:
        module.gzip.open = original
    assert counts[1] < 10.5 * counts[0]


def frames_as_text(n=6):
    """Frames of an element and a half, one after another: (number of atoms, comment, lines) each."""
    rng = np.random.default_rng(3)
    for k in range(n):
        atoms = [f"{rng.choice(['Cu', 'O'])} {x:.8f} {y:.8f} {z:.8f}\n" for x, y, z in rng.normal(size=(k + 1, 3))]
        yield f"{k + 1}\n", f'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 energy={-k} ä="ö"\n', atoms


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 18])
@pytest.mark.parametrize("suffix", ["extxyz", "extxyz.gz"])
def test_the_quick_way_and_the_careful_one_agree(tmp_path, monkeypatch, piece, suffix):
    """Whatever comes out of the ordinary, wherever it comes: frames and errors are those of the reader of lines."""
    frames = ["".join([n, comment, *atoms]) for n, comment, atoms in frames_as_text()]
    texts = {
        "ordinary": "".join(frames), "no end of line": "".join(frames).rstrip(), "blank end": "".join(frames) + "\n \n",
        "blank between": "\n".join(frames), "windows": "".join(frames).replace("\n", "\r\n"),
        "mac": "".join(frames).replace("\n", "\r"), "mixed": "".join(frames[:3]) + frames[3].replace("\n", "\r\n"),
        "cut": "".join(frames)[:-60], "a line too many": "".join(frames[:4]) + "Cu 0 0 0\n" + "".join(frames[4:]),
        "a line missing": "".join(frames[:4]).rsplit("\n", 2)[0] + "\n" + "".join(frames[4:]),
        "no atoms": "".join(frames[:2]) + "0\ncomment\n" + "".join(frames[2:]), "nonsense": "hello\n" + frames[0],
        "spaces": "".join("  " + f for f in frames), "too many": frames[0] + "99999999999\n" + frames[1],
        "other digits": frames[0] + frames[1].replace("2", "٢", 1), "nothing": "\n",
    }  # fmt: skip
    monkeypatch.setattr(extxyz_split, "PIECE", piece)
    path = tmp_path / f"x.{suffix}"
    for what, text in texts.items():
        data = text.encode()
        path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        found = [str(x) if isinstance(x, Exception) else x for x in extxyz_split.Blocks(path)]
        lines = io.StringIO(text, newline=None)
        want = [str(x) if isinstance(x, Exception) else x for x in extxyz_split._blocks(lines, path, 0)]
        assert found == want, what
        assert what != "ordinary" or [(n, t.count("\n")) for _, n, t in found] == [(k, k + 1) for k in range(1, 7)]


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x.xyz"
    path.write_bytes(b"1\ncomment\nCu 0 0 0\n1\ncomm\xffent\nCu 0 0 0\n")
    good, error = extxyz_split.Blocks(path)
    assert good == (1, 1, "comment\nCu 0 0 0\n") and "is not a text file" in str(error)


def test_frames_without_atoms_as_ase_writes_them(tmp_path):
    """Their column of names is one of numbers: read as what they are, and named where atoms are needed."""
    path = tmp_path / "x.extxyz"
    some = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    some.calc = SinglePointCalculator(some, energy=1.0)
    write(path, [some, Atoms(), some])
    assert "species:R:1" in path.read_text()
    assert [len(a) for a in read_frames(path)] == [2, 0, 2]
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"]))
    for call in (lambda: fd.train(potential, path, progress=False), lambda: potential.predict(path)):
        with pytest.raises(InputError, match=r"frame \d has no atoms; remove it"):
            call()
    for kind, word in (("R:1", "29"), ("S:2", "Cu Cu"), ("I:1", "29")):
        path.write_text(f"1\nProperties=species:{kind}:pos:R:3\n{word} 0 0 0\n")
        with pytest.raises(FileFormatError, match=r"must hold one name of an element for each atom \(species:S:1\)"):
            read_frames(path)


def test_symbols_of_every_form(tmp_path):
    """Short ones are looked up packed, long ones and those of plain columns as words; each as ASE spells them."""
    path = tmp_path / "x.xyz"
    for word in ("Cu", "cu", "CU", "H"):
        path.write_text(f"2\nProperties=species:S:1:pos:R:3\n{word} 0 0 0\nO 0 0 nan\n" * 2)
        for kind in ("0 0 nan", "0 0 1.5"):
            path.write_text(path.read_text().replace("0 0 nan", kind))
            assert [a.numbers.tolist() for a in read_frames(path)] == [[{"H": 1}.get(word, 29), 8]] * 2
    for word in ("Copper", "Xx1", "Co-pper"):
        path.write_text(f"1\nProperties=species:S:1:pos:R:3\n{word} 0 0 0\n")
        with pytest.raises(FileFormatError, match=f"unknown element or name '{word.capitalize()}'"):
            read_frames(path)


# --- files that cannot be used


def test_missing_folder_empty_and_foreign(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.xyz does not exist"):
        read_frames(tmp_path / "nowhere.xyz")
    with pytest.raises(InputError, match="is a folder"):
        read_frames(tmp_path)
    empty = tmp_path / "empty.xyz"
    empty.touch()
    with pytest.raises(FileFormatError, match=r"empty.xyz is empty"):
        read_frames(empty)
    blank = tmp_path / "blank.xyz"
    blank.write_text("\n\n")
    with pytest.raises(FileFormatError, match=r"blank.xyz holds no frames"):
        read_frames(blank)
    foreign = tmp_path / "notes.foo"
    foreign.write_text("some words\n")
    with pytest.raises(FileFormatError, match=r"notes.foo is of no format ASE knows"):
        read_frames(foreign)
    broken = tmp_path / "x.traj"
    broken.write_bytes(b"- of Ulm")
    with pytest.raises(FileFormatError, match=r"x.traj could not be read by ASE"):
        read_frames(broken)
    binary = tmp_path / "x.xyz"
    binary.write_bytes(bytes(range(128, 256)))
    with pytest.raises(FileFormatError, match=r"x.xyz is not a text file"):
        read_frames(binary)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Cu ", "Xx ", "line 1: unknown element or name 'Xx'"),
        ("pos:R:3", "pos:Q:3", "kind 'Q'"),
        ("pos:R:3", "place:R:3", "no column holds the positions"),
        ("species:S:1", "type:S:1", "no column says which element"),
        ("species:S:1:pos:R:3", "species:S:1:pos:R", "not a list of name:kind:columns"),
        ("species:S:1:", "species:S:1:tags:I:5:", r"atom 1 has 7 columns where 12 are described"),
    ],
)
def test_broken_frames_are_named(xyz, old, new, message):
    xyz.write_text(xyz.read_text().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        read_frames(xyz)


def test_cut_short(tmp_path, xyz):
    lines = xyz.read_text().splitlines()
    xyz.write_text("\n".join(lines[:-2]))
    with pytest.raises(FileFormatError, match="ends inside a frame: line 17 promises 4 atoms and 2 follow"):
        read_frames(xyz)
    cut = tmp_path / "cut.extxyz.gz"
    cut.write_bytes(gzip.compress("\n".join(lines).encode())[:-20])
    with pytest.raises(FileFormatError, match=r"cut.extxyz.gz is not a complete gzip file"):
        read_frames(cut)
    cut.write_bytes(b"not gzip at all")
    with pytest.raises(FileFormatError, match=r"cut.extxyz.gz is not a complete gzip file"):
        read_frames(cut)


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        (3.0, "a float arrived"), (None, "a NoneType arrived"), ([1, 2], "member 0 of the list is a int"),
        ([Atoms("H"), None], "member 1 of the list is a NoneType"),
        ((Atoms("H"), "x"), "member 1 of the tuple is a str"),
    ],
)  # fmt: skip
def test_not_frames(frames, what):
    with pytest.raises(InputError, match=f"frames must be .* {what}"):
        read_frames(frames)


def test_empty_list():
    with pytest.raises(InputError, match="empty"):
        read_frames([])


def test_elements(tmp_path, xyz):
    assert elements([Atoms("OH"), Atoms("AuC")]) == ["H", "C", "O", "Au"]
    assert elements(xyz) == ["Cu"]


@pytest.mark.parametrize("yes, no", [("T", "F"), ("true", "FALSE"), ("True", "False"), ("1", "0"), (".true.", ".F.")])
def test_booleans_in_any_spelling(tmp_path, yes, no):
    path = tmp_path / "x.xyz"
    text = "2\nProperties=species:S:1:pos:R:3:fixed:L:1\nCu 0 0 0 {}\nCu 0 0 2 {}\n"
    path.write_text(text.format(yes, no))
    assert read_frames(path)[0].arrays["fixed"].tolist() == [True, False]
    path.write_text(text.format(yes, "None"))
    with pytest.raises(FileFormatError, match=r"'None' stands in a column of kind L; it must be T or F"):
        read_frames(path)
