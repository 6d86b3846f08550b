"""Labels by calculators that fail, in processes that die, or end with the loop."""

import time

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from helpers.loops import MOODY, Moody, with_gold

from fastdesc.errors import InputError
from fastdesc.learn import labelling
from fastdesc.learn.calculators import labelled, make_calculator
from fastdesc.learn.files import write_table
from fastdesc.learn.labelling import check_calculator, label_frames
from fastdesc.learn.settings import Label

HERE = __file__.rsplit("/", 2)[0]


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


@pytest.mark.parametrize("reuse, made", [(False, 3), (True, 1)])
def test_calculators_are_new_for_each_structure_unless_they_are_kept(tmp_path, reuse, made):
    write(tmp_path / "frames.extxyz", with_gold(0, 1, 2))
    Moody.made = 0
    label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", Label(MOODY, workers=0, reuse=reuse), HERE, print)
    assert Moody.made == made


def test_a_worker_ends_with_the_loop(tmp_path):
    """It reads the end of its pipe, however the loop ended, also in the middle of a structure."""
    write(tmp_path / "frames.extxyz", with_gold(0, 1))
    folder = tmp_path / "labels"
    folder.mkdir()
    told = {"frames": str(tmp_path / "frames.extxyz"), "modules": HERE, "calculator": MOODY}
    write_table(folder / "task.json", {**told, "arguments": {"waits": [1]}, "reuse": False, "largest_force": 50.0})
    worker = labelling._started(folder, 0, 1)
    while not (folder / "00001.run").exists():
        assert worker.poll() is None, (folder / "worker-0.log").read_text()
        time.sleep(0.05)
    worker.stdin.close()
    assert worker.wait(timeout=60) == 1
    assert (folder / "00000.extxyz").exists() and not (folder / "00001.failed").exists()


def test_none_labelled_ends_the_loop(tmp_path):
    write(tmp_path / "frames.extxyz", with_gold(3, 3))
    with pytest.raises(InputError, match=r"none of 2 structures could be labelled; the first: .* did not converge"):
        label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", Label(MOODY, {"raises": [3]}, 0), HERE)


def test_workers_of_a_dask_cluster_label(tmp_path):
    """What fails is left out, a structure that ends its workers too; the rest is as elsewhere, and not done again."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed: pip install 'fastdesc[distributed]'")
    import dask
    from helpers.distributed_runs import start_cluster

    write(tmp_path / "frames.extxyz", with_gold(0, 2, 3, 1))
    told = []
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), start_cluster(1) as cluster:
        label = Label(MOODY, {"raises": [3], "ends": [2]}, scheduler=cluster.scheduler_address)
        check_calculator(label, HERE)
        with pytest.raises(InputError, match="cannot be made"):
            check_calculator(Label(MOODY, {"no": 1}, scheduler=cluster.scheduler_address), HERE)
        frames, failed = label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", label, HERE, told.append)
    assert [int((a.numbers == 79).sum()) for a in frames] == [0, 1] and told[-1] == "labelled 4 of 4"
    assert failed[1] == "several Dask workers that labelled it ended" and "did not converge" in failed[2]
    expected = Moody()
    expected.calculate(frames[-1])
    np.testing.assert_allclose(frames[-1].get_forces(), expected.results["forces"], atol=1e-8)
    assert label_frames(tmp_path / "frames.extxyz", tmp_path / "labels", label, HERE, told.append)[1] == failed
    for wrong in (3, "", b"x"):
        with pytest.raises(InputError, match="scheduler came as"):
            Label(MOODY, scheduler=wrong)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        check_calculator(Label(MOODY, scheduler="nonsense://x"), HERE)
