"""Frames on the disk train as those in memory do in the same order, to the last bit; what goes wrong is told."""

import os
import shutil
import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from doubles.thread_ranks import on_ranks
from helpers.command_line import CONFIG
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, FileFormatError, InputError
from fastdesc.io.frames_on_disk import FramesOnDisk
from fastdesc.training import run_trainer, streamed_set, trainer, trainer_for
from fastdesc.training.dataset import TrainingSet, shuffled_by_blocks
from fastdesc.training.prefetch import prefetched
from fastdesc.training.streamed_frames import Streamed, open_streamed
from fastdesc.training.streamed_set import StreamedSet, cut_into_blocks
from fastdesc.training.team_ranks import TeamOfRanks

SMALL = {"n_radial": 2, "n_basis": 3, "max_rank": 1}
QUICK = {"epochs": 2, "batch_atoms": 20, "seed": 1, "uncertainty": False, "frame_memory": 0.0}


def many():
    """Frames of several sizes: of weights of their own, without forces, without stress, of a single atom."""
    frames = [*alloy(6), alloy(1, 3, (1, 1, 1))[0], *alloy(3, 4, (2, 2, 1))]
    frames[1].info["weight"] = 2
    frames[4].calc = SinglePointCalculator(frames[4], energy=frames[4].get_potential_energy())
    frames[8].pbc = (True, True, False)
    results = dict(frames[8].calc.results)
    frames[8].calc = SinglePointCalculator(frames[8], **results)
    frames.append(Atoms("Cu", calculator=None))
    frames[-1].calc = SinglePointCalculator(frames[-1], energy=3.5, forces=np.zeros((1, 3)))
    return frames


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Frames in two files."""
    folder, frames = tmp_path_factory.mktemp("streamed"), many()
    for name, some in (("a.h5", frames[:5]), ("b.h5", frames[5:])):
        fd.convert(some, folder / name, progress=False)
    return folder


@pytest.fixture
def blocks_of_two(monkeypatch):
    monkeypatch.setattr(streamed_set, "BLOCK_BYTES", (1000, 1500))


def parameters(potential):
    return {**potential.parameters, "reference": potential.reference, "scaler": potential.scaler.scale}


def assert_same(one, two):
    for name, a in parameters(one).items():
        np.testing.assert_array_equal(a, parameters(two)[name], err_msg=name)


def streamed(path, memory=0.0):
    return open_streamed(path, memory)


def test_same_numbers_as_in_memory(files, blocks_of_two, monkeypatch):
    one, two = small_potential(**SMALL), small_potential(**SMALL)
    settings = {**QUICK, "valid_fraction": 0.2, "uncertainty": True}
    first = trainer_for(one, files / "[ab].h5", **settings)
    assert isinstance(first.data, StreamedSet) and isinstance(first.valid, StreamedSet)
    blocks, window = first.data.blocks, first.data.window
    assert len(blocks) > 4 and window == 1, "blocks are what is to be tested"
    second = trainer_for(two, files / "[ab].h5", **{**settings, "frame_memory": 1.0})
    assert type(second.data) is type(second.valid) is TrainingSet
    monkeypatch.setattr(second.data, "order", lambda rng: shuffled_by_blocks(blocks, window, rng))
    first.run(progress=False)
    second.run(progress=False)
    assert_same(one, two)
    for name in ("train_loss", "valid_loss", "valid_forces_rmse", "train_stress_mae"):
        assert first.history[name] == second.history[name], name
    np.testing.assert_array_equal(one.uncertainty.factor, two.uncertainty.factor)
    assert first.data.report == second.data.report and first.valid.report == second.valid.report


@pytest.mark.parametrize("repulsion", [None, "zbl"])
def test_what_is_known_of_all_frames_is_the_same(files, blocks_of_two, repulsion):
    potential = fd.Potential(small_potential(**SMALL).descriptor, hidden=(12, 8), repulsion=repulsion)
    source, given = open_streamed(files / "[ab].h5", 0.0), (potential.descriptor, np.float32)
    one = StreamedSet(source, *given, repulsion=potential.repulsion)
    two = TrainingSet(files / "[ab].h5", *given, repulsion=potential.repulsion)
    for name in ("energies", "weight", "n_atoms", "dropped_stress", "volumes", "n_species"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    for name in ("largest_forces", "largest_stress", "lone_atoms", "usual"):
        np.testing.assert_array_equal(getattr(one, name)(), getattr(two, name)(), err_msg=name)
    np.testing.assert_array_equal(one.compositions(2), two.compositions(2))
    assert one.counts() == two.counts() and one.lone_atoms().tolist() == [10]
    np.testing.assert_allclose(one.force_size(), two.force_size(), rtol=1e-14)
    assert [one.where(k) for k in (4, 5)] == [two.where(k) for k in (4, 5)]
    assert one.species_of(10) == two.species_of(10)
    frames = np.array([7, 0, 9])
    for a, b in zip(one._given(frames)[2:], two._given(frames)[2:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_come_in_random_order_and_each_for_a_while():
    bounds = np.array([0, 3, 5, 9, 10, 14])
    order = shuffled_by_blocks(bounds, 2, np.random.default_rng(0))
    assert sorted(order) == list(range(14))
    block = np.searchsorted(bounds, order, side="right") - 1
    last = {b: np.flatnonzero(block == b)[-1] for b in range(5)}
    for k in range(14):
        assert len({b for b in block[: k + 1] if last[b] >= k}) <= 2
    np.testing.assert_array_equal(order, shuffled_by_blocks(bounds, 2, np.random.default_rng(0)))
    whole = shuffled_by_blocks(bounds, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(whole, np.random.default_rng(0).permutation(14))


def test_memory_is_bounded(tmp_path):
    """Of a file of 7 MB, with 2 MB for frames."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(60):
        atoms = Atoms("Cu1000", positions=rng.uniform(0, 40, (1000, 3)))    # far from each other, on the whole
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=rng.standard_normal((1000, 3)))
        frames.append(atoms)
    fd.convert(frames, tmp_path / "large.h5", progress=False)
    size = 60 * 1000 * 52
    del frames
    memory = 1.0e-3
    source = open_streamed(tmp_path / "large.h5", memory)
    descriptor = small_potential(**SMALL).descriptor
    tracemalloc.start()
    try:
        data = StreamedSet(source, descriptor, np.float32)
        for k in data.order(rng):
            data._block(int(np.searchsorted(data.blocks, k, side="right")) - 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data.blocks) > 30 and data.window > 3
    assert peak < 1.3 * memory * 1e9 < size / 2


def test_blocks_keep_to_the_memory():
    n_atoms = np.full(1000, 50)
    for memory in (1e6, 1e5):
        bounds, window = cut_into_blocks(n_atoms, memory)
        largest = np.diff(bounds).max() * (180 + 56 * 50)
        assert bounds[0] == 0 and bounds[-1] == 1000 and (np.diff(bounds) > 0).all()
        assert window == max(1, memory // largest - 2)
    assert cut_into_blocks(np.array([5]), 0.0)[1] == 1


def test_a_run_goes_on_from_the_middle_of_an_epoch(files, blocks_of_two, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "MIDWAY", 2)
    settings = {**QUICK, "batch_atoms": None, "batch_size": 2}
    one, two = small_potential(**SMALL), small_potential(**SMALL)
    whole = trainer_for(one, files / "[ab].h5", **settings)
    whole.run(tmp_path / "whole.h5", progress=True)
    assert whole.step == 10 and "epoch 2/2: step 4 of 5, 0 s left in it" in capsys.readouterr().out
    interrupted = trainer_for(two, files / "[ab].h5", **settings)
    step = interrupted._step

    def dies(*given):
        if interrupted.step == 8:
            raise MemoryError
        step(*given)

    monkeypatch.setattr(interrupted, "_step", dies)
    with pytest.raises(MemoryError):
        interrupted.run(tmp_path / "c.h5", progress=False)
    again = trainer_for(two, files / "[ab].h5", checkpoint=tmp_path / "c.h5", resume=True, **settings)
    assert (again.epoch, again.step, again.part["steps"]) == (1, 7, 2)
    run_trainer(again, tmp_path / "c.h5", progress=False)
    assert_same(one, two)
    for row, other in zip(whole.history.rows, again.history.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    with pytest.raises(InputError, match=r"frame_memory=0.0 and this run has 1e-06"):
        more = {**settings, "frame_memory": 1e-6}
        trainer_for(two, files / "[ab].h5", checkpoint=tmp_path / "c.h5", resume=True, **more)


def test_other_frames_are_another_run(files, tmp_path):
    path = tmp_path / "c.h5"
    settings = {**QUICK, "epochs": 1, "checkpoint": path}
    fd.train(small_potential(**SMALL), files / "a.h5", files / "b.h5", progress=False, **settings)
    with pytest.raises(InputError, match=r"other validation frames"):
        trainer_for(small_potential(**SMALL), files / "a.h5", files / "a.h5", resume=True, **settings)


def test_energies_alone_train_from_frames_on_the_disk(files):
    settings = {**QUICK, "force_weight": 0.0, "stress_weight": 0.0, "descriptor_learning_rate": 0.0}
    potentials = []
    for memory in (0.0, 1.0):
        potentials.append(small_potential(**SMALL))
        fd.train(potentials[-1], files / "a.h5", files / "b.h5", progress=False, **{**settings, "frame_memory": memory})
    assert_same(*potentials)


def test_a_file_that_changes_or_goes_ends_training_and_keeps_the_checkpoint(files, tmp_path, blocks_of_two):
    for change, words in ((os.remove, "b.h5 is gone"), (lambda path: os.utime(path, (1, 1)), "b.h5 was changed")):
        folder = tmp_path / words.replace(" ", "")
        shutil.copytree(files, folder)
        potential = small_potential(**SMALL)
        run = trainer_for(potential, folder / "[ab].h5", valid_fraction=0.0, **{**QUICK, "epochs": 3})

        def after(epoch, change=change, folder=folder):
            if epoch.row["epoch"] == 1:
                change(folder / "b.h5")

        with pytest.raises(FileFormatError, match=rf"{words} while frames are read from it; bring back what was there"):
            run.run(folder / "c.h5", progress=False, callback=after)
        assert not np.array_equal(potential.parameters["network/0/0/weight"],
                                  small_potential(**SMALL).parameters["network/0/0/weight"]), "what was reached is kept"
        (folder / "b.h5").unlink(missing_ok=True)
        shutil.copy(files / "b.h5", folder / "b.h5")
        settings = {**QUICK, "epochs": 3, "valid_fraction": 0.0, "checkpoint": folder / "c.h5", "resume": True}
        assert len(fd.train(small_potential(**SMALL), folder / "[ab].h5", progress=False, **settings)) == 3


def bad_frame(change):
    frames = alloy(4)
    change(frames[2])
    return frames


def at_one_place(atoms):
    results = dict(atoms.calc.results)
    atoms.positions[1] = atoms.positions[0]
    atoms.calc = SinglePointCalculator(atoms, **results)


def foreign(atoms):
    results = dict(atoms.calc.results)
    atoms.numbers[3] = 13
    atoms.calc = SinglePointCalculator(atoms, **results)


def weight(value):
    return lambda atoms: atoms.info.update(weight=value)


@pytest.mark.parametrize(
    "change, words",
    [
        (at_one_place, r"x.h5: frame 2, atom 0 and atom 1"),
        (foreign, r"x.h5: frame 2, atom 3 is Al, which the model does not know"),
        (weight(-1.0), r"info\['weight'\] of frame 2 is -1.0"),
        (weight("much"), r"info\['weight'\] of frame 2 is 'much'"),
    ],
)
def test_a_frame_in_the_middle_that_cannot_be_used_is_named(change, words, tmp_path):
    fd.convert(bad_frame(change), tmp_path / "x.h5", progress=False)
    with pytest.raises(InputError, match=words):
        trainer_for(small_potential(**SMALL), tmp_path / "x.h5", valid_fraction=0.0, **QUICK)


def test_frames_without_labels_and_files_without_frames_are_refused(tmp_path, files):
    fd.convert([Atoms("Cu2", [(0, 0, 0), (0, 0, 2)])], tmp_path / "bare.h5", progress=False)
    with pytest.raises(InputError, match=r"none of the 1 training frames in .*bare.h5 carries an energy or forces"):
        trainer_for(small_potential(**SMALL), tmp_path / "bare.h5", valid_fraction=0.0, **QUICK)
    import h5py

    shutil.copy(files / "a.h5", tmp_path / "empty.h5")
    with h5py.File(tmp_path / "empty.h5", "r+") as f:
        f.attrs["n_frames"] = 0
        f["offsets"].resize(1, axis=0)
        for name in ("numbers", "positions", "forces", "cells", "pbc", "energies", "stress"):
            f[name].resize(0, axis=0)
        for d in f["info"].values():
            d.resize(0, axis=0)
    with pytest.raises(FileFormatError, match=r"empty.h5 holds no frames"):
        trainer_for(small_potential(**SMALL), [files / "a.h5", tmp_path / "empty.h5", files / "b.h5"], **QUICK)


@pytest.mark.parametrize("value", [-1, "24GB", np.nan, np.inf, None, True])
def test_bad_amounts_of_memory(value, files):
    with pytest.raises(InputError, match=r"frame_memory came as"):
        trainer_for(small_potential(**SMALL), files / "a.h5", frame_memory=value)


def test_what_is_streamed(files, tmp_path):
    assert isinstance(streamed(files / "a.h5"), Streamed) and len(streamed(files / "[ab].h5")) == 11
    assert isinstance(streamed([files / "a.h5", files / "b.h5"]), Streamed)
    assert streamed(files / "a.h5", 1.0) is None, "it fits"
    assert streamed(alloy(2)) is None and streamed(alloy(1)[0]) is None
    from ase.io import write

    write(tmp_path / "x.extxyz", alloy(2))
    with pytest.warns(FastdescWarning, match=r"x.extxyz .* is read into memory whole, .* fastdesc convert makes"):
        assert streamed(tmp_path / "x.extxyz") is None
    assert streamed(tmp_path / "x.extxyz", 1.0) is None and streamed(tmp_path / "none.h5") is None
    with pytest.raises(InputError, match=r"energy_key is 'REF', .* fastdesc convert --energy-key REF"):
        open_streamed(files / "a.h5", 0.0, keys={"energy_key": "REF", "forces_key": None})


def test_rows_across_files_are_the_frames(files):
    disk, frames = FramesOnDisk([files / "a.h5", files / "b.h5"]), many()
    rows = disk.rows(3, 8)
    np.testing.assert_array_equal(rows.structures.positions, np.concatenate([a.positions for a in frames[3:8]]))
    assert rows.energies.tolist() == [a.get_potential_energy() for a in frames[3:8]]
    np.testing.assert_array_equal(rows.take([4, 0]).forces[:16], frames[7].get_forces())
    assert disk.weights(0, 11) == [1.0, 2, *[1.0] * 9] and disk.elements() == {29, 79}
    assert disk.place(5) == (str(files / "b.h5"), 0)


def test_no_more_is_made_ahead_than_may_wait():
    made = []
    for k in prefetched(lambda x: made.append(x) or x, range(9), threads=2, waiting=3):
        assert k + 1 <= len(made) + 3 and max(made, default=0) <= k + 3
    assert sorted(made) == list(range(9))


def test_ranks_share_the_steps_and_a_run_of_one_goes_on_within_an_epoch(files, blocks_of_two, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "MIDWAY", 2)
    settings = {**QUICK, "batch_atoms": None, "batch_size": 2, "dtype": "float64", "learning_rate": 1e-3}
    alone = trainer_for(small_potential(), files / "[ab].h5", **settings)
    alone.run(progress=False)

    def work(comm):
        team = TeamOfRanks(comm)
        run = trainer_for(small_potential(), files / "[ab].h5", team=team, **settings)
        team.begin_alike(run)
        original = run._step

        def step(*given):
            if run.step == 7:
                raise MemoryError
            original(*given)

        run._step = step
        with pytest.raises(MemoryError):
            run_trainer(run, tmp_path / "c.h5" if comm.rank == 0 else None, progress=False)

    on_ranks(2, work)

    def rest(comm):
        team, checkpoint = TeamOfRanks(comm), {"checkpoint": tmp_path / "c.h5", "resume": True}
        run = trainer_for(small_potential(), files / "[ab].h5", team=team, **checkpoint, **settings)
        team.begin_alike(run)
        assert run.step == 7 and run.part["steps"] == 2
        run_trainer(run, progress=False)
        return run

    for run in on_ranks(2, rest):
        for name in ("train_loss", "valid_loss", "train_forces_mae"):
            np.testing.assert_allclose(run.history[name], alone.history[name], rtol=1e-9)


def test_the_command_trains_from_frames_on_the_disk(files, tmp_path, run):
    text = CONFIG.replace('"train.extxyz"', f'"{files}/[ab].h5"\nvalid = "{files}/a.h5"')
    text = text.replace('test = "test.extxyz"\n', "").replace("[training]", "[training]\nframe_memory = 0.0")
    (tmp_path / "c.toml").write_text(text)
    code, out, err = run("train", tmp_path / "c.toml")
    assert code == 0, err
    assert f"train: 11 frames (101 atoms) on disk, in {files}/a.h5 and 1 more" in out
    assert "all with energy, 1 without forces, 3 without stress; streamed from" in out
    told = fd.load(tmp_path / "run" / "model.h5").training
    assert told["frames"].startswith("11 frames (101 atoms), all with energy") and told["errors"]["valid_loss"] > 0
    assert told["settings"]["frame_memory"] == 0.0
