"""Labels by calculators that fail, in processes that die; fixed sets; starts without labels."""

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from helpers.loops import LOOP, Moody, make_loop

from fastdesc.errors import InputError
from fastdesc.learn.calculators import labelled, make_calculator
from fastdesc.learn.labelling import check_calculator, label_frames
from fastdesc.learn.settings import Label

MOODY = "helpers.loops:Moody"
HERE = __file__.rsplit("/", 2)[0]


def with_gold(*counts):
    frames = []
    for k in counts:
        atoms = bulk("Cu", cubic=True)
        atoms.numbers[:k] = 79
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("workers, ends, left", [(0, [], [0, 2, 1]), (2, [2], [0, 1])])
def test_structures_that_fail_are_left_out(tmp_path, workers, ends, left):
    write(tmp_path / "frames.extxyz", with_gold(0, 2, 3, 1))
    label = Label(MOODY, {"raises": [3], "ends": ends}, workers)
    told = []
    frames, failed = label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", label, HERE, told.append)
    assert [int((a.numbers == 79).sum()) for a in frames] == left
    assert failed[2] == "the calculator failed: RuntimeError: it did not converge"
    if ends:
        assert failed[1] == "the process that labelled it ended: exit code 7"
    assert told[-1] == "labelled 4 of 4"
    expected = Moody()
    expected.calculate(frames[-1])
    np.testing.assert_allclose(frames[-1].get_forces(), expected.results["forces"], atol=1e-8)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "labels").glob("0*")}
    label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", label, HERE, told.append)
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "labels").glob("0*")}, "none is done again"


def test_what_a_calculator_cannot_do_is_told():
    atoms = bulk("Cu", cubic=True)
    with pytest.raises(InputError, match="did not converge"):
        labelled(atoms, Moody(raises=[0]), 50.0)
    near = atoms.copy()
    near.positions[1] = near.positions[0] + [1.0, 0, 0]
    with pytest.raises(InputError, match=r"a force of .* is above largest_force = 5"):
        labelled(near, make_calculator("ase.calculators.emt:EMT", None, "."), 5.0)
    for name, arguments, words in (
        ("no_such_module:EMT", None, "cannot be imported"), ("ase.calculators.emt:None_", None, "cannot be imported"),
        (MOODY, {"no": 1}, "cannot be made"), ("collections:Counter", None, "is no ASE calculator"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            make_calculator(name, arguments, HERE)
    with pytest.raises(InputError, match=r"cannot be made .*unexpected keyword"):
        check_calculator(Label(MOODY, {"no": 1}), HERE)
    with pytest.raises(InputError, match='must be "module:Class"'):
        Label("EMT")


def test_none_labelled_ends_the_loop(tmp_path):
    write(tmp_path / "frames.extxyz", with_gold(3, 3))
    with pytest.raises(InputError, match=r"none of 2 structures could be labelled; the first: .* did not converge"):
        label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", Label(MOODY, {"raises": [3]}, 0), HERE)


def test_a_fixed_set_is_distilled_from_a_start_without_labels(tmp_path, run):
    moody = f'"{MOODY}"\narguments = {{raises = [3]}}'
    text = LOOP[: LOOP.index("[explore]")] + '[explore]\nframes = "pool.extxyz"\ncapture_above = 0\n'
    text += "[select]\nnumber = 4\n" + LOOP[LOOP.index("[label]") :].replace('"ase.calculators.emt:EMT"', moody)
    path = make_loop(tmp_path / "a", text.replace("rounds = 2", "rounds = 5"))
    bare = [a.copy() for a in read(path.parent / "train.extxyz", ":")]
    write(path.parent / "train.extxyz", bare)
    pool = with_gold(1, 2, 3, 1, 2, 0)
    for k, atoms in enumerate(pool):
        atoms.rattle(0.05, seed=k)
    write(path.parent / "pool.extxyz", pool)
    code, out, err = run("learn", path, "--quiet")
    assert code == 0, err
    assert "round 0: labelled 6 of 6" in out and "of the set" in out
    folder = path.parent / "fastdesc-learn"
    chosen = [a.info["candidate"] for r in (1, 2) for a in read(folder / f"round-00{r}" / "selected.extxyz", ":")]
    assert sorted(chosen) == list(range(6)), "each once"
    assert "left out: the calculator failed" in out and "round 3: all structures of the set were chosen" in out
    assert len(read(folder / "train.extxyz", ":")) + len(read(folder / "valid.extxyz", ":")) == 6 + 5
