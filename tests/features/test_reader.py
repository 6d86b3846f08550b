"""Reading features back: lazily, by structure, by atom and as a table; what is told of them."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from helpers.featurizing import Fake, files, frames

import fastdesc as fd
from fastdesc.analysis.info import describe
from fastdesc.cli import main
from fastdesc.errors import InputError
from fastdesc.features import featurize, open_features
from fastdesc.features.transformer import pooled_features
from fastdesc.hdf5 import tables
from fastdesc.hdf5.files import part_of


@pytest.fixture(scope="module")
def data():
    data = frames()
    for k, atoms in enumerate(data):
        atoms.info["group"] = "even" if k % 2 == 0 else "odd"
        if k > 2:
            atoms.info["temperature"] = 100.0 * k
    return data


@pytest.fixture(scope="module")
def path(tmp_path_factory, data):
    return featurize(data, tmp_path_factory.mktemp("features") / "features.h5", Fake(), chunk_atoms=20)


@pytest.fixture(scope="module")
def rows(data):
    return np.split(Fake().compute(data), np.cumsum([len(a) for a in data])[:-1])


def test_like_a_sequence_of_arrays(path, data, rows):
    with fd.open_features(path) as f:
        assert len(f) == 10 and f.n_atoms == sum(map(len, data)) and f.n_features == 2 and f.pool is None
        assert f.names == ["x", "y²"] and f.family == "fake" and f.parameters["species"] == ["Cu"]
        for k in (0, 3, 9, -1, -10, np.int64(4)):
            np.testing.assert_array_equal(f[k], rows[k])
        for which in (slice(2, 5), slice(None), slice(-3, None), slice(1, 9, 3), slice(8, 2, -2)):
            np.testing.assert_array_equal(f[which], np.concatenate(rows[which]))
        assert f[5:5].shape == f[7:3].shape == f[[]].shape == (0, 2)
        np.testing.assert_array_equal(f[[7, 2, 2]], np.concatenate([rows[7], rows[2], rows[2]]))
        np.testing.assert_array_equal(f[np.arange(10) == 3], rows[3])
        for a, b in zip(f, rows, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(f.atoms[5:17], np.concatenate(rows)[5:17])
        np.testing.assert_array_equal(f.atoms[6], np.concatenate(rows)[6])
        assert f.atoms.shape == (f.n_atoms, 2) and len(f.atoms) == f.n_atoms
        for k in (10, -11):
            with pytest.raises(IndexError, match=f"structure {k} was asked for; .* holds 10"):
                f[k]
        for wrong in ([0.5], [[1]], np.ones(3, bool)):
            with pytest.raises(InputError):
                f[wrong]


def test_rows_of_atoms_are_chosen_like_those_of_an_array(path, rows):
    every = np.concatenate(rows)
    n = len(every)
    with fd.open_features(path) as f:
        odd = np.arange(n) % 2 == 1
        slices = slice(2, 30, 3), slice(-4, None), slice(9, 4), slice(0, 99)
        for which in (3, -1, np.int64(5), *slices, [0, 4, 7], odd, (slice(2, 6), 1)):
            np.testing.assert_array_equal(f.atoms[which], every[which])
        for wrong in ("a", None, [1, 0], [0, 0], [-1, 3], [0, n], [0.5], [], [[1]], odd[1:], slice(None, None, -1)):
            with pytest.raises(InputError, match=f"a mask of {n} or ascending integers below {n}"):
                f.atoms[wrong]
        for wrong in (n, -n - 1, (0, 2)):
            with pytest.raises(IndexError):
                f.atoms[wrong]


def test_chosen_structures_are_read_in_few_pieces(path, monkeypatch):
    """In the order asked for, also twice; one structure left out between two is read with them."""
    with fd.open_features(path) as f:
        reads, real = [], f._read
        monkeypatch.setattr(f, "_read", lambda name, rows: reads.append(name) or real(name, rows))
        which = np.array([8, 0, 2, 3, 0, -2])
        whole, numbers = [f[k] for k in which.tolist()], [f.numbers(k) for k in which.tolist()]
        reads.clear()
        np.testing.assert_array_equal(f[which], np.concatenate(whole))
        assert reads.count("features") == 2
        np.testing.assert_array_equal(f.numbers(which), np.concatenate(numbers))
        assert f[np.zeros(0, int)].shape == (0, f.n_features) and f.numbers(np.zeros(len(f), bool)).shape == (0,)


def test_what_is_not_in_the_file_is_no_damage(path):
    with fd.open_features(path) as f:
        for wrong in ("a", None, 1.5, [1]):
            for read in (f.forces, f.numbers, f.jacobian):
                with pytest.raises(InputError, match="was asked for; give its number"):
                    read(wrong)
        with pytest.raises(InputError, match="structures are consecutive here"):
            f.numbers(slice(0, 4, 2))
        for a, b in ((-1, 1), (0, 0), (3, 2), (0, 11), (10, 11), ("a", 1), (0, None)):
            with pytest.raises(InputError, match=r"[ab] came as .*; it must be an integer from"):
                f.rows(a, b)
        for n in (0, -1, 1.5, "a", None):
            for read in (f.batches, lambda n: pooled_features(f, n=n)):
                with pytest.raises(InputError, match=r"n came as .*; it must be an integer of at least 1"):
                    read(n)
        for wrong in ("max", None, ["sum"]):
            with pytest.raises(InputError, match=r"pool .* arrived; it must be 'mean' or 'sum'"):
                pooled_features(f, wrong)
        with pytest.raises(InputError, match=r"info 'goup' \(did you mean 'group'\?\); they carry group, id, temp"):
            f.info("goup")
        with pytest.raises(InputError, match="carries info 3; they carry"):
            f.info(3)


def test_labels_and_batches(path, data, rows):
    with fd.open_features(path) as f:
        np.testing.assert_array_equal(f.forces(5), data[5].calc.results["forces"])
        np.testing.assert_array_equal(f.numbers(2), data[2].numbers)
        assert np.isnan(f.forces(4)).all() and f.energies[5] == -7.5
        parts = list(f.batches(4))
        assert [p.first for p in parts] == [0, 4, 8] and [len(p.energies) for p in parts] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate([p.features for p in parts]), np.concatenate(rows))
        np.testing.assert_array_equal(parts[1].features[parts[1].offsets[1] : parts[1].offsets[2]], rows[5])
        np.testing.assert_array_equal(parts[1].stress[1], f.file["stress"][5])


def test_table_of_structures(path, data):
    with fd.open_features(path) as f:
        table = f.table()
        np.testing.assert_array_equal(table["n_atoms"], [len(a) for a in data])
        np.testing.assert_array_equal(table["number"], np.arange(10))
        assert list(table["group"]) == ["even", "odd"] * 5 and list(table["id"]) == list(range(10))
        np.testing.assert_array_equal(table["temperature"], [np.nan] * 3 + [100.0 * k for k in range(3, 10)])
        assert (table["file"] == -1).all()
        pandas = pytest.importorskip("pandas")
        frame = f.dataframe()
        assert isinstance(frame, pandas.DataFrame) and frame.groupby("group").id.sum()["odd"] == 25


def test_pooled(tmp_path, data, rows):
    out = tmp_path / "f.h5"
    for pool in ("sum", "mean"):
        want = np.stack([getattr(r, pool)(0) for r in rows])
        for dtype in ("float64", "float32"):
            featurize(data, out, Fake(), pool=pool, chunk_atoms=20, dtype=dtype)
            with fd.open_features(out) as f:
                assert f.pool == pool and f.dtype == dtype
                np.testing.assert_allclose(f[:], want, rtol=1e-12 if dtype == "float64" else 1e-6)
                np.testing.assert_array_equal(f[3], f[:][3])
                np.testing.assert_array_equal(f[[4, 1]], f[:][[4, 1]])
                np.testing.assert_array_equal(np.stack(list(f)), f[:])
                np.testing.assert_array_equal(pooled_features(f), f[:])
                with pytest.raises(InputError, match="rows of atoms were not kept"):
                    _ = f.atoms
        featurize(data, out, Fake())
        with fd.open_features(out) as f:
            np.testing.assert_allclose(pooled_features(f, pool, n=3), want, rtol=1e-12)


def test_jacobian(tmp_path, data):
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=4, max_rank=1)
    out = featurize(data[:4], tmp_path / "f.h5", d, jacobian=True, chunk_atoms=13)
    with fd.open_features(out) as f:
        for k in (0, 2, 3):
            q, want = d.compute(data[k], jacobian=True)
            np.testing.assert_allclose(f[k], q, atol=1e-12)
            np.testing.assert_allclose(f.jacobian(k).todense(), want.todense(), atol=1e-12)
        again = f.descriptor()
        np.testing.assert_array_equal(again.compute(data[1]), f[1])
    featurize(data[:2], out, d)
    with fd.open_features(out) as f, pytest.raises(InputError, match="holds no Jacobian"):
        f.jacobian(0)


@pytest.mark.parametrize("pool", [None, "mean"])
def test_jacobian_of_lone_atoms(tmp_path, pool):
    """Nobody is near: features that no displacement changes, between those of a crystal."""
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=4, max_rank=1)
    lone = [Atoms("Cu"), Atoms("Cu", cell=[9, 9, 9], pbc=True), Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 9]])]
    out = featurize([lone[0], bulk("Cu"), *lone[1:]], tmp_path / "f.h5", d, jacobian=True, pool=pool)
    with fd.open_features(out) as f:
        for k, n in ((0, 1), (2, 1), (3, 2)):
            assert f.jacobian(k).todense().shape[0] == n
            assert not f.jacobian(k).todense().any()
        np.testing.assert_allclose(f.jacobian(1).todense(), d.compute(bulk("Cu"), jacobian=True)[1].todense())


@pytest.mark.parametrize("compression", tables.COMPRESSIONS)
def test_compression(tmp_path, data, rows, compression):
    if compression in ("zstd", "blosc2"):
        pytest.importorskip("hdf5plugin")
    out = featurize(data, tmp_path / "f.h5", Fake(), compression=compression)
    with fd.open_features(out) as f:
        np.testing.assert_array_equal(f[:], np.concatenate(rows))
        packed = f.file["features"]
        assert (packed.id.get_create_plist().get_nfilters() > 0) == (compression != "none")
        assert len(json.dumps(describe(out))) > 100
        assert packed.chunks is not None and f.file["numbers"].compression == "gzip"


def test_compression_is_checked(tmp_path, data, monkeypatch):
    with pytest.raises(InputError, match="did you mean 'gzip'"):
        featurize(data, tmp_path / "f.h5", Fake(), compression="gzp")
    monkeypatch.setitem(__import__("sys").modules, "hdf5plugin", None)
    with pytest.raises(InputError, match=r"needs the package hdf5plugin: pip install 'fastdesc\[compression\]'"):
        featurize(data, tmp_path / "f.h5", Fake(), compression="zstd")
    assert files(tmp_path) == []


def test_info_of_features_and_of_unfinished_ones(tmp_path, path, data, capsys):
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "10 frames (7 with energy, 7 with forces, 7 with stress)" in text and "info/temperature" in text
    assert "as in the input" in text and "2 features per atom" in text
    out = tmp_path / "f.h5"
    with pytest.raises(KeyboardInterrupt):
        featurize(data, out, Fake(fails_at=6), chunk_atoms=8)
    assert main(["info", str(part_of(out))]) == 0
    assert "6 frames" in capsys.readouterr().out
    assert main(["info", str(out)]) == 2


def test_skipped_frames_are_told(tmp_path, capsys):
    from ase.io import write

    data = frames(6)
    data[1].numbers[0] = 79
    data[4].positions[1] = data[4].positions[0]
    source, out = tmp_path / "in.extxyz", tmp_path / "f.h5"
    write(source, data)
    lines = source.read_text().splitlines()
    at = [k for k, line in enumerate(lines) if line.isdecimal()][2]
    lines[at + 3] = "Cu 0 nonsense 0 0 0 0"
    source.write_text("\n".join(lines) + "\n7\nProperties=species:S:1:pos:R:3\nCu 0 0 0\n")
    words = ["featurize", str(source), str(out), "--species", "Cu", "--cutoff", "3", "--set", "n_radial=2", "--quiet"]
    assert main(words) == 2
    assert "nonsense" in capsys.readouterr().err, "reading is what fails first"
    assert main([*words, "--on-error", "skip"]) == 0
    text = capsys.readouterr().out
    assert "3 frames" in text and "4 frames skipped" in text and "in.extxyz 1: frame 1, atom 0 is Au" in text
    with fd.open_features(out) as f:
        assert [(s["number"], s["file"], s["index"]) for s in f.skipped] == [(k, "in.extxyz", k) for k in (1, 2, 4, 6)]
        assert "Au" in f.skipped[0]["reason"] and "nonsense" in f.skipped[1]["reason"]
        assert "apart" in f.skipped[2]["reason"] and "ends inside a frame" in f.skipped[3]["reason"]
        assert f.table()["number"].tolist() == [0, 3, 5] == [int(x) for x in f.table()["id"]]
        assert json.loads(f.file["files"].asstr()[0])["size"] == source.stat().st_size


def test_info_under_the_names_of_the_table(tmp_path):
    """What frames carry as `number` or `energy` stands beside what the file knows under these names."""
    source = frames(3)
    for k, atoms in enumerate(source):
        atoms.info |= {"number": 10.0 * k, "file": f"f{k}"}
    with open_features(featurize(source, tmp_path / "f.h5", Fake(), progress=False)) as f:
        table = f.table()
    assert table["number"].tolist() == [0, 1, 2] and table["info number"].tolist() == [0, 10, 20]
    assert table["file"].tolist() == [-1] * 3 and table["info file"].tolist() == ["f0", "f1", "f2"]
