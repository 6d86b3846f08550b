"""Many workers: the same file as from one; needs dask.distributed."""

import shutil
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from helpers.distributed_runs import many, same, start_cluster
from helpers.featurizing import Fake, files, frames

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import FastdescError, FastdescWarning, FileFormatError, InputError
from fastdesc.features import dask as module
from fastdesc.features import (
    dask_tasks,
    featurize,
    greedy,
    open_features,
    read_features,
    rows,
    rows_on_dask,
    shards,
)

WHY = "dask.distributed is not installed: pip install 'fastdesc[distributed]'"
dask = pytest.importorskip("distributed", reason=WHY)


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes, started as a user of a cluster would."""
    with start_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_BATCHES", 2)


def test_the_same_as_in_one_process(tmp_path, cluster, small_shards, monkeypatch):
    source, out, one = tmp_path / "in.extxyz", tmp_path / "out.h5", tmp_path / "one.h5"
    data = many()
    data[7].positions[0] = np.nan
    write(source, data)
    options = {"chunk_atoms": 20, "on_error": "skip", "dtype": "float32"}
    featurize(source, out, Fake(), scheduler=cluster.scheduler_address, **options)
    featurize(source, one, Fake(), **options)
    same(out, one)
    with h5py.File(out) as f:
        assert f["features"].is_virtual and len(f["features"].virtual_sources()) > 3
    with open_features(out) as f:
        assert [s["number"] for s in f.skipped] == [7]
        np.testing.assert_array_equal(f[20:30], read_features(one).features[f.offsets[20] : f.offsets[30]])
    with open_features(out) as f:
        monkeypatch.setattr(shards, "OPEN_AT_MOST", 2)
        for k, rows in enumerate(f):
            np.testing.assert_array_equal(rows, f[k])
        np.testing.assert_array_equal(f.atoms[3:200:7], read_features(one).features[3:200:7])
        assert len(f._shards.open) == 2, "few files are open at a time"
    # The two move together; one without the other says so.
    (tmp_path / "moved").mkdir()
    for name in ("out.h5", "out.h5.shards"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    same(tmp_path / "moved" / "out.h5", one)
    (tmp_path / "moved" / "out.h5.shards" / "000001.h5").unlink()
    with pytest.raises(FileFormatError, match=r"of which 000001.h5 is missing \(1 in all\)"):
        open_features(tmp_path / "moved" / "out.h5")


def test_workers_choose_as_one_process_does(tmp_path, cluster, monkeypatch):
    """Blocks of few rows and tasks of few blocks, so that what a task needs of its place is right."""
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=4, max_rank=1)
    out = featurize(frames(60), tmp_path / "f.h5", d)
    monkeypatch.setattr(rows_on_dask, "BLOCKS", 4)
    monkeypatch.setattr(rows, "BLOCK", 8)
    monkeypatch.setattr(rows.Rows.blocks, "__defaults__", (8,))
    monkeypatch.setattr(greedy, "POOL", 45)
    weights = np.linspace(1, 2, 60)
    with open_features(out) as f:
        found, expected = (
            [
                *fd.select_diverse(f, 30, weights=weights, scheduler=given), fd.select_typical(f, 20, scheduler=given),
                fd.select_spanning(f, 5, environments=True, scheduler=given),
            ]
            for given in (cluster.scheduler_address, None)
        )  # fmt: skip
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(InputError, match="scheduler came as 3"):
            fd.rarity(f, scheduler=3)


def test_pooled_with_jacobian(tmp_path, cluster, small_shards):
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=4, max_rank=1)
    data, out, one = frames(9), tmp_path / "out.h5", tmp_path / "one.h5"
    options = {"chunk_atoms": 20, "pool": "sum", "jacobian": True}
    featurize(data, out, d, scheduler=cluster.scheduler_address, **options)
    featurize(data, one, d, **options)
    same(out, one)
    with open_features(out) as f, open_features(one) as g:
        for k in (0, 5, 8):
            for a, b in zip(f.jacobian(k).__dict__.values(), g.jacobian(k).__dict__.values(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_resume(tmp_path, cluster, small_shards):
    out, data, address = tmp_path / "out.h5", many(), cluster.scheduler_address
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20)
    shards = tmp_path / "out.h5.shards"
    times = {p.name: p.stat().st_mtime_ns for p in shards.glob("*.h5")}
    out.unlink()
    (shards / "000002.h5").unlink()
    (shards / "000003-abc.h5.part").touch()
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20, resume=True)
    now = {p.name: p.stat().st_mtime_ns for p in shards.glob("*.h5*")}
    assert set(now) == set(times) and [k for k in now if now[k] != times[k]] == ["000002.h5"]
    same(out, featurize(data, tmp_path / "one.h5", Fake(), chunk_atoms=20))
    with pytest.raises(InputError, match=r"settings.parameters.scale: 1.0, now 2.0"):
        featurize(data, out, Fake(scale=2.0), scheduler=address, chunk_atoms=20, resume=True)
    with pytest.raises(InputError, match="are not those of the input"):
        featurize(data[1:], out, Fake(), scheduler=address, chunk_atoms=20, resume=True)
    with pytest.raises(InputError, match="joined from shards and cannot grow"):
        featurize(data, out, Fake(), resume=True)


def test_errors_come_back(tmp_path, cluster, small_shards, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", "1s")
    with pytest.raises(InputError, match="frame 8, atom 0 is Au"):
        featurize([*frames(8), Atoms("Au")], tmp_path / "a.h5", Fake(), scheduler=cluster.scheduler_address)
    assert "a.h5" not in files(tmp_path)
    assert files(tmp_path / "a.h5.shards") == ["run.json"]    # and the worker has removed what it had begun
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        featurize(frames(2), tmp_path / "a.h5", Fake(), scheduler="tcp://127.0.0.1:1")
    shards = tmp_path / "a.h5.shards"
    before = files(shards)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        featurize(frames(2), tmp_path / "b.h5", Fake(), scheduler="nonsense")
    assert not (tmp_path / "b.h5.shards").exists() and files(shards) == before
    (shards / "run.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"run.json is damaged \(.*\); remove it, or do not resume"):
        featurize(frames(2), tmp_path / "a.h5", Fake(), scheduler=cluster.scheduler_address, resume=True)


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'fastdesc\[distributed\]'"):
        featurize(frames(2), tmp_path / "a.h5", Fake(), scheduler="local")
    assert issubclass(InputError, FastdescError) and files(tmp_path) == []


def test_local_cluster_from_the_command_line(tmp_path, capsys):
    write(tmp_path / "in.extxyz", frames(6))
    words = ["featurize", str(tmp_path / "in.extxyz"), str(tmp_path / "f.h5"), "--species", "Cu", "--cutoff", "3"]
    words += ["--set", "n_radial=2", "--scheduler", "local", "--workers", "2", "--quiet", "--dtype", "float32"]
    assert main(words) == 0
    assert "6 frames" in capsys.readouterr().out


def test_shards_of_an_earlier_run_are_not_taken(tmp_path, cluster, small_shards):
    """Without resume all is made anew; and a shard that holds other frames is refused with it."""
    out, data, address = tmp_path / "out.h5", many(12), cluster.scheduler_address
    featurize(data, out, Fake(scale=2.0), scheduler=address, chunk_atoms=20)
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20)
    same(out, featurize(data, tmp_path / "one.h5", Fake(), chunk_atoms=20))
    shards = tmp_path / "out.h5.shards"
    out.unlink()
    shutil.copyfile(shards / "000001.h5", shards / "000000.h5")
    with pytest.raises(InputError, match=r"frames in .*000000.h5 are not those of the input"):
        featurize(data, out, Fake(), scheduler=address, chunk_atoms=20, resume=True)


def test_shards_whose_last_frames_are_others(tmp_path, cluster, small_shards):
    """Frames in memory have no fingerprint: the first and the last batch of each shard are compared."""
    out, data, address = tmp_path / "out.h5", many(12), cluster.scheduler_address
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20)
    with open_features(tmp_path / "out.h5.shards" / "000000.h5") as f:
        last = len(f) - 1
    data[last].rattle(0.1, seed=1)
    with pytest.raises(InputError, match=r"frames in .*000000.h5 are not those of the input"):
        featurize(data, out, Fake(), scheduler=address, chunk_atoms=20, resume=True)


def test_shards_that_are_shorter(tmp_path, cluster, small_shards):
    """Of fewer frames than belong there: the file would lack them."""
    out, data, address = tmp_path / "out.h5", tmp_path / "in.extxyz", cluster.scheduler_address
    write(data, many(12))
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20)
    first = tmp_path / "out.h5.shards" / "000000.h5"
    first.unlink()
    featurize(many(2), first, Fake(), progress=False)
    with pytest.raises(InputError, match=r"frames in .*000000.h5 are not those of the input"):
        featurize(data, out, Fake(), scheduler=address, chunk_atoms=20, resume=True)


@pytest.mark.parametrize("change, words", [
    ({"energy_key": "REF_energy"}, "settings.keys"), ({"chunk_atoms": 40}, "settings.chunk_atoms: 20, now 40"),
])  # fmt: skip
def test_a_resume_with_other_settings(tmp_path, cluster, small_shards, change, words):
    out, data, address = tmp_path / "out.h5", many(6), cluster.scheduler_address
    for atoms in data:
        atoms.info["REF_energy"] = -1.0
    featurize(data, out, Fake(), scheduler=address, chunk_atoms=20)
    with pytest.raises(InputError, match=f"begun with other settings or another input .*{words}"):
        featurize(data, out, Fake(), scheduler=address, **{"chunk_atoms": 20, "resume": True, **change})


def test_a_resume_with_shards_of_another_size(tmp_path, cluster, small_shards, monkeypatch):
    """As another version may make them."""
    out, address = tmp_path / "out.h5", cluster.scheduler_address
    featurize(many(6), out, Fake(), scheduler=address, chunk_atoms=20)
    monkeypatch.setattr(module, "SHARD_BATCHES", 3)
    with pytest.raises(InputError, match=r"\(settings.shard_batches: 2, now 3\)"):
        featurize(many(6), out, Fake(), scheduler=address, chunk_atoms=20, resume=True)


def test_a_resume_with_other_trained_parameters(tmp_path, cluster, small_shards):
    """Two descriptors of equal arguments whose parameters were trained apart."""
    out, address, trained = tmp_path / "out.h5", cluster.scheduler_address, Fake()
    featurize(many(6), out, Fake(), scheduler=address, chunk_atoms=20)
    trained.parameters = {"beta": np.arange(3.0) + 1}
    with pytest.raises(InputError, match=r"begun with other settings or another input \(settings.trained.beta"):
        featurize(many(6), out, trained, scheduler=address, chunk_atoms=20, resume=True)


def test_distances_of_all_shards_are_counted(tmp_path, cluster, small_shards):
    """Every dimer is shorter than the first knot; the warning at the end speaks of all of them."""
    d = fd.SplineFilters(species=["Cu"], cutoff=4.0, triplet_cutoff=3.0, r_min=2.5, n_pair=1, n_triplet=0)
    data = [Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.0]]) for _ in range(40)]
    told = []
    for name, options in (("a.h5", {"scheduler": cluster.scheduler_address}), ("b.h5", {})):
        with pytest.warns(FastdescWarning) as warned:
            featurize(data, tmp_path / name, d, chunk_atoms=4, progress=False, **options)
        told.append([str(w.message) for w in warned if "r_min" in str(w.message) or "knot" in str(w.message)])
    assert told[0] == told[1] and len(told[0]) == 1


def test_workers_that_come_back_have_all_their_time_again(monkeypatch):
    """Time without workers is counted from when the last one left, not from when the first one did."""
    answers, times = [{}, {"a": 1}, {}, {}, {}], iter([0.0, 200.0, 400.0, 600.0, 800.0])
    client = SimpleNamespace(status="running", ncores=lambda: answers.pop(0))
    monkeypatch.setattr(dask_tasks, "time", SimpleNamespace(monotonic=lambda: next(times)))
    tasks = dask_tasks.Tasks(client, None)
    for _ in range(4):
        tasks._look_at_cluster()
    with pytest.raises(FastdescError, match="has had no workers for 300 s"):
        tasks._look_at_cluster()
