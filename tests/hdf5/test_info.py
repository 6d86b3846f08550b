"""What frames carry in their info: any key and value comes back as it was, or is refused in one sentence."""

from fractions import Fraction

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import Spacegroup
from helpers.featurizing import Fake

from fastdesc.errors import InputError
from fastdesc.features import convert, featurize, open_features, read_frames
from fastdesc.hdf5 import info as info_columns
from fastdesc.hdf5.files import open_hdf5
from fastdesc.hdf5.info import InfoColumns, read_info


def atoms(**info):
    return Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.3]], info=info)


def equal(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a == b and type(a) is type(b)


KEPT = {
    "a dot for a key": [{".": 1}], "two dots": [{"..": 1}], "fractions": [{"n": 1.5}, {"n": 3.0}],
    "a slash": [{"/": 1}, {"a/b": 2, "a|b": 3, "a/.": 4, "a/": 5}], "zeros": [{"a\0b": "c\0d"}],
    "half a character": [{"a\udce9": "b\udce9"}], "long": [{"k" * 70000: "x" * 100000}],
    "whole numbers": [{"n": 3}, {"n": 2**53 + 1}, {"n": -(2**63)}, {"n": 10**400}], "lines": [{"n": "a\nb"}],
    "booleans": [{"n": True}, {"n": False}], "nothing": [{"n": None, "m": ""}, {"n": 1, "m": "a"}],
    "a word, then a number": [{"n": "bulk"}, {"n": 3}, {"n": True}, {"n": 2.5}, {}],
    "a number, then a word": [{"n": 3}, {"n": "bulk"}, {"n": True}, {"n": 5}],
    "a boolean, then a number": [{"n": True}, {"n": 1}, {"n": 1.5}],
    "keys like ours": [{"n (text)": 5}, {"n": 1}, {"n": "x", "info_json": 2}],
    "arrays": [{"n": np.arange(6.0).reshape(2, 3)}, {"n": np.array([1, 2])}, {"n": np.array([True, False])}],
    "dicts and lists": [{"n": {"a": [1, {"b": None}], "c": "x"}}, {"n": [1, "a"]}],
    "keys that begin late": [{}, {}, {"n": 1.0, "m": "a"}, {}],
}  # fmt: skip


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("what", KEPT)
def test_everything_comes_back(tmp_path, what, at_once):
    """From a frames file exactly, number for number; a features file has the same keys."""
    infos = KEPT[what]
    convert([atoms(**x) for x in infos], tmp_path / "f.h5", progress=False)
    got = [a.info for a in read_frames(tmp_path / "f.h5")]
    again = convert(tmp_path / "f.h5", tmp_path / "g.h5", progress=False)
    for found in (got, [a.info for a in read_frames(again)]):
        assert len(found) == len(infos)
        for a, b in zip(found, infos, strict=True):
            assert set(a) == set(b) and all(equal(a[key], b[key]) for key in b), (a, b)
    data = [atoms(**x) for x in infos]
    featurize(data, tmp_path / "q.h5", Fake(), progress=False, chunk_atoms=8192 if at_once else 1)
    with open_features(tmp_path / "q.h5") as f:
        assert set(f.info_keys) == {key for x in infos for key in x}
        assert all(len(column) == len(infos) for column in f.table().values())


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (np.str_("a"), "a"), (np.float32(1.5), 1.5), (np.int8(3), 3), (np.True_, True), (np.longdouble(1.5), 1.5),
        (np.array(3.5), 3.5), (Fraction(1, 4), 0.25), ((1, "a"), [1, "a"]), ({"b"}, ["b"]), (b"abc", "abc"),
        (1 + 2j, {"__complex__": [1.0, 2.0]}), (Spacegroup(225), {"number": 225, "setting": 1}),
        (np.datetime64("2024-01-01"), "2024-01-01"),
    ],
)  # fmt: skip
def test_what_has_a_form_of_its_own_is_told_in_numbers_and_text(tmp_path, given, want):
    (got,) = read_frames(convert(atoms(n=given), tmp_path / "f.h5", progress=False))
    assert equal(got.info["n"], want)


def test_what_no_file_can_hold_is_refused_in_a_sentence(tmp_path):
    itself = {}
    itself["n"] = itself
    data = [atoms(n=1), atoms(n=itself), atoms(n=object()), atoms(n=1 << 20000), atoms(n=2)]
    for run in (convert, lambda a, b, **c: featurize(a, b, Fake(), **c)):
        with pytest.raises(InputError, match=r"frame 1 carries an info 'n' that cannot be stored \(it contains its"):
            run(data, tmp_path / "f.h5", progress=False)
        run(data, tmp_path / "f.h5", progress=False, on_error="skip")
        (tmp_path / "f.h5").unlink()
    _, skipped = convert(data, tmp_path / "f.h5", progress=False, on_error="skip", report=True)
    assert [s["number"] for s in skipped] == [1, 2, 3]
    assert [a.info["n"] for a in read_frames(tmp_path / "f.h5")] == [1, 2]


def test_one_key_is_one_column_of_a_table(tmp_path):
    """A word in some frames and a number in others, whichever comes first."""
    for first in ([{"n": "bulk"}, {"n": 3}, {}, {"n": True}], [{"n": 3}, {"n": "bulk"}, {}, {"n": True}]):
        out = featurize([atoms(**x) for x in first], tmp_path / "q.h5", Fake(), progress=False)
        with open_features(out) as f:
            assert f.info_keys == ["n"] and f.info("n").tolist() == [str(x.get("n", "")) for x in first]
    with open_features(featurize([atoms(n=1), atoms(), atoms(n=2**60)], out, Fake(), progress=False)) as f:
        np.testing.assert_array_equal(f.info("n"), [1, np.nan, 2.0**60])


# --- free text


def free_text(path, n, comment):
    path.write_text("".join(f"1\n{comment.format(k)}\nCu 0 0 {k / 10}\n" for k in range(n)))
    return path


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        (" Atoms. Timestep: {}", "Atoms. Timestep: 3"), ("Coordinates from ORCA-job job{} E -76.{}", None),
        ("-1234.5{}", "-1234.53"), ("gdb {}\t157.7\t157.7 0. 13.21", None), ("step{} . ..", "step3 . .."),
    ],
)  # fmt: skip
def test_a_comment_without_values_is_one_text(tmp_path, comment, words):
    path = free_text(tmp_path / "x.xyz", 5, comment.replace("{}", "{0}"))
    got = read_frames(path)[3].info
    assert got == {"comment": words or comment.replace("{}", "3")}
    assert [a.info for a in read_frames(convert(path, tmp_path / "f.h5", progress=False))][3] == got
    with open_features(featurize(path, tmp_path / "q.h5", Fake(), progress=False)) as f:
        assert f.info_keys == ["comment"] and f.info("comment")[3] == got["comment"]


def test_flags_are_keys_and_the_rest_is_text(tmp_path):
    """As ASE has it, but for words that cannot be the name of a flag."""
    path = tmp_path / "x.xyz"
    path.write_text("1\nrelaxed step 17, E=-2.5 done=T (seen)\nCu 0 0 0\n")
    (got,) = read_frames(path)
    assert got.info == {"relaxed": True, "step": True, "E": -2.5, "done": True, "comment": "17, (seen)"}


def test_words_without_end_cost_no_more_than_a_named_key(tmp_path, monkeypatch):
    """Each frame has flags of its own: a bounded number of columns, and all of them come back."""
    n = 500
    path = free_text(tmp_path / "x.xyz", n, "run{0} E=1.5 part{0} of{0}")
    out = convert(path, tmp_path / "f.h5", progress=False)
    with h5py.File(out) as f:
        assert len(f["info"]) == info_columns.MOST_COLUMNS
    got = [a.info for a in read_frames(out)]
    assert got == [{f"run{k}": True, "E": 1.5, f"part{k}": True, f"of{k}": True} for k in range(n)]
    named = convert(free_text(tmp_path / "y.xyz", n, "run={0} E=1.5"), tmp_path / "g.h5", progress=False)
    assert out.stat().st_size < named.stat().st_size + info_columns.MOST_COLUMNS * 2**18


def test_columns_that_are_opened_again_go_on(tmp_path):
    infos = [{"a": 1}, {}, {"a": 2.5, "b/c": "x"}, {"a": "three"}, {"b/c": 4.0}, {"late": 5.0}, {}]
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as f:
        f.create_group("info")
    for first in range(0, len(infos), 2):
        with h5py.File(path, "r+") as f:
            columns = InfoColumns(f["info"])
            for k in range(first, min(first + 2, len(infos))):
                columns.append(infos[k : k + 1], k)
            columns.flush()
    with open_hdf5(path) as f:
        assert read_info(f, "info", 0, 7) == infos and set(f["info"]) == {"a", "late"}
        assert read_info(f, "info", 2, 5) == infos[2:5]
        np.testing.assert_array_equal(f["info/a"][...], [1, np.nan, 2.5, *[np.nan] * 4])


def test_files_of_earlier_versions_are_read(tmp_path):
    out = featurize([atoms(n=1, t="a"), atoms(n=2)], tmp_path / "q.h5", Fake(), progress=False)
    with h5py.File(out, "r+") as f:
        for d in f["info"].values():
            del d.attrs["kind"]
    with open_features(out) as f:
        assert f.info("n").tolist() == [1, 2] and f.info("t").tolist() == ["a", ""]
