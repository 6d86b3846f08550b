"""Files of PyTorch: what comes out of honest ones, and that nothing comes out of the others, or is run by them."""

import builtins
import os
import pickle
import struct
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers.torch_writer import Module as Written
from helpers.torch_writer import Raw, Writer, named, text, write

from fastdesc.errors import FileFormatError, InputError
from fastdesc.torch_files import is_archive, read_torch
from fastdesc.torch_files.machine import Module

TREE = {
    "numbers": [1, -2, 300, 70000, 2**40, -(2**40), 1.5, True, False, None],
    "text": "Å and µ",
    "tuple": (1, "a", (), [], {}),
    "double": np.arange(6.0).reshape(2, 3),
    "single": np.arange(4, dtype="f4"),
    "half": np.arange(3, dtype="f2"),
    "long": np.arange(5),
    "bytes": np.arange(5, dtype="u1"),
    "bool": np.array([True, False]),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "one": np.array(2.5),
    "none": np.zeros((0, 3)),
    7: "a number as key",
}


def same(a, b):
    if isinstance(b, np.ndarray):
        assert isinstance(a, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and not a.flags.writeable
        np.testing.assert_array_equal(a, b)
    elif isinstance(b, dict):
        assert type(a) is dict and list(a) == list(b)
        for key in b:
            same(a[key], b[key])
    elif isinstance(b, list | tuple):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert type(a) is type(b) and a == b


def test_what_was_written_is_read(tmp_path):
    path = write(tmp_path / "x.pth", {key: value for key, value in TREE.items() if key != "none"})
    assert is_archive(path)
    same(read_torch(path), {key: value for key, value in TREE.items() if key != "none"})
    assert read_torch(write(tmp_path / "empty.pth", TREE["none"])).shape == (0, 3)


def test_modules_are_names_with_members(tmp_path):
    inner = Written("__torch__.src.activate.Relu_like", alpha=np.ones(2), training=False)
    found = read_torch(write(tmp_path / "x.pt", Written("__torch__.torch.nn.___torch_mangle_3.PES", a=inner, b=1.5)))
    assert (type(found), found.kind, found.members["b"]) == (Module, "PES", 1.5)
    assert found.members["a"].kind == "Relu_like" and list(found.members["a"].members) == ["alpha", "training"]
    np.testing.assert_array_equal(found.members["a"].members["alpha"], 1)


def test_other_ways_to_say_the_same(tmp_path):
    """Pairs in an OrderedDict, its attributes, parameters, lists with types, references, short integers."""
    array = Writer()
    parameter = named("torch._utils", "_rebuild_parameter") + b"(" + array.value(np.arange(3.0)) + b"\x88}tR"
    pairs = named("collections", "OrderedDict") + b"](" + text("a") + b"K\x07\x86" + text("b") + b"M\x01\x02\x86e\x85R"
    program = b"(" + text("p") + parameter + text("d") + pairs + b"q\x05}" + text("_metadata") + b"}sb"
    program += text("again") + b"h\x05" + text("ints") + named("torch.jit._pickle", "build_intlist") + b"](K\x01e\x85R"
    tagged = named("torch.jit._pickle", "restore_type_tag") + b"](K\x02e" + text("List[int]") + b"\x86R"
    program += text("tagged") + tagged
    keyed = b"}" + program + b"u"
    found = read_torch(write(tmp_path / "x.pt", Raw(keyed), writer=array))
    np.testing.assert_array_equal(found["p"], [0, 1, 2])
    assert found["d"] == {"a": 7, "b": 513} and found["again"] is found["d"]
    assert (found["ints"], found["tagged"]) == ([1], [2])


def test_big_endian_files(tmp_path):
    path = write(tmp_path / "x.pth", [np.arange(3.0).astype(">f8").view("f8")])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("model/byteorder", "big")
    np.testing.assert_array_equal(read_torch(path)[0], [0, 1, 2])


# ------------------------------------------------------------------------------------------------------- malicious


@pytest.fixture
def nothing_runs(monkeypatch):
    """Functions that a pickle would like to call tell when they are."""
    called = []
    for module, name in ((os, "system"), (builtins, "eval"), (builtins, "exec"), (subprocess, "Popen"), (os, "popen")):
        monkeypatch.setattr(module, name, lambda *a, name=name, **k: called.append(name))
    yield
    assert not called


class Reduced:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def of_program(path, program, protocol=b"\x80\x02"):
    """An archive whose pickle is a given program."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", protocol + program)
    return path


CALLS = {
    "os.system": named("os", "system") + text("echo") + b"\x85R",
    "posix.system": named("posix", "system") + text("echo") + b"\x85R",
    "eval": named("builtins", "eval") + text("1") + b"\x85R",
    "__builtin__ eval": named("__builtin__", "eval") + text("1") + b"\x85R",
    "getattr": named("builtins", "getattr") + b")R",
    "Popen": named("subprocess", "Popen") + b")R",
    "numpy scalar": named("numpy.core.multiarray", "scalar") + b")R",
    "numpy _reconstruct": named("numpy.core.multiarray", "_reconstruct") + b")R",
    "torch.load": named("torch", "load") + b")R",
    "torch._utils other": named("torch._utils", "_rebuild_sparse_tensor") + b")R",
    "codecs": named("_codecs", "encode") + b")R",
    "collections other": named("collections", "defaultdict") + b")R",
    "dotted name": named("collections", "OrderedDict.fromkeys") + b")R",
    "dotted module": named("collections.OrderedDict", "__init__") + b")R",
    "almost a module": named("__torch__evil", "x") + b")\x81",
    "fastdesc": named("fastdesc.torch_files.machine", "run") + b")R",
    "named, not called": named("os", "system"),
    "unicode look-alike": "coѕ\nsystem\n".encode() + b")R",
}


@pytest.mark.parametrize("name", CALLS)
def test_names_are_refused_before_anything_is_called(name, tmp_path, nothing_runs):
    for program in (CALLS[name] + b".", b"}" + text("a") + CALLS[name] + b"s.", CALLS[name] + b"0N."):
        with pytest.raises(FileFormatError, match=r"not allowed|cannot be followed") as caught:
            read_torch(of_program(tmp_path / "x.pt", program))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "call", [(os.system, "true"), (eval, "1"), (exec, "1"), (os.popen, "true"), (subprocess.Popen, "true"),
             (getattr, 1, "real"), (__import__, "os"), (bytearray, 10**9), (np.zeros, 10**9)]
)  # fmt: skip
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_that_python_makes(call, protocol, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("x/data.pkl", pickle.dumps({"a": Reduced(*call)}, protocol))
    with pytest.raises(FileFormatError, match=r"not allowed|is not of protocol 2"):
        read_torch(tmp_path / "x.pt")


MODULE, SYSTEM = named("__torch__.a", "B"), text("system")
TRICKS = {
    "call of a module": MODULE + b")R",
    "call of a text": SYSTEM + b")R",
    "call of a dict": b"})R",
    "call without a tuple": named("collections", "OrderedDict") + b"]R",
    "call of a storage type": named("torch", "FloatStorage") + b")R",
    "new of a function": named("collections", "OrderedDict") + b")\x81",
    "new with arguments": MODULE + b"K\x01\x85\x81",
    "new of a text": SYSTEM + b")\x81",
    "build of a list": b"]}b",
    "build of a function": named("collections", "OrderedDict") + b"}b",
    "build with a tuple": MODULE + b")\x81N}\x86b",
    "build of a module's name": MODULE + b"}b",
    "name as a value": b"]" + MODULE + b"a",
    "function as a value": b"}" + text("a") + named("collections", "OrderedDict") + b"s",
    "name in a tuple": MODULE + b"\x85",
    "storage type in a list": b"]" + named("torch", "FloatStorage") + b"a",
    "name as the result": MODULE,
    "names as pairs": named("collections", "OrderedDict") + b"](K\x01e\x85R",
    "dict of a text": named("collections", "OrderedDict") + SYSTEM + b"\x85R",
    "dict as a key": b"}}K\x01s",
    "tuple as a key": b"})K\x01s",
    "list as a key": b"}(]K\x01u",
    "odd items": b"}(K\x01u",
    "too many arguments": named("torch._utils", "_rebuild_parameter") + b")R",
    "intlist of a text": named("torch.jit._pickle", "build_intlist") + SYSTEM + b"\x85R",
    "reference that is text": SYSTEM + b"Q",
    "reference of another kind": b"(" + text("module") + named("torch", "FloatStorage") + b"NNNtQ",
    "reference without a type": b"(" + text("storage") + b"NNNNtQ",
    "reference that is no tuple": b"Q",
    "persistent id in text": b"Pabc\n",
    "EXT1": b"\x82\x01",
    "INST": b"(ios\nsystem\n",
    "OBJ": b"(" + SYSTEM + b"o",
    "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93",
    "NEWOBJ_EX": b"\x92",
    "NEXT_BUFFER": b"\x97",
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", 2**40),
    "LONG4": b"\x8b" + struct.pack("<i", 2**30),
    "long of 255 bytes": b"\x8a\xff" + b"\xff" * 255,
    "BINSTRING": b"T" + struct.pack("<i", 2**30),
    "text longer than the file": b"X" + struct.pack("<I", 2**31) + b"abc",
    "text that is none": b"X\x02\x00\x00\x00\xff\xfe",
    "FRAME": b"\x95" + struct.pack("<Q", 2**60),
    "DUP": b"}2",
    "protocol in the middle": b"\x80\x04",
    "empty stack": b"s",
    "tuple of nothing": b"\x87",
    "mark that is not there": b"K\x01t",
    "append to a dict": b"}K\x01a",
    "append to nothing": b"K\x01a",
    "value is a mark": b"(",
    "two values": b"NN",
    "memo that is not there": b"h\x00",
    "memo of nothing": b"q\x00",
    "mark kept": b"(q\x00h\x00",
    "long memo": b"Nr\xff\xff\xff\xff" + b"j\xfe\xff\xff\xff",
    "name without end": b"cos" + b"s" * 5000,
    "name cut": b"cos\n",
    "bytes after the end": b"N.N",
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks(name, tmp_path, nothing_runs):
    with pytest.raises(FileFormatError, match=r"x\.pt holds a pickle that .*do not trust this file$"):
        read_torch(of_program(tmp_path / "x.pt", TRICKS[name] + b"."))


def test_every_cut_and_every_changed_byte_is_harmless(tmp_path, nothing_runs):
    """A pickle cut anywhere, or with any byte changed: a sentence or containers, never another error."""
    writer = Writer()
    honest = b"\x80\x02" + writer.value({"a": [1, (2.5, "b")], "c": np.arange(3.0)}) + b"."
    rng = np.random.default_rng(0)
    programs = [honest[:n] for n in range(len(honest))]
    for _ in range(4000):
        changed = bytearray(honest)
        for at in rng.integers(2, len(honest), rng.integers(1, 4)):
            changed[at] = rng.integers(256)
        programs.append(bytes(changed))
    path = tmp_path / "x.pt"
    for program in programs:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x/data.pkl", program)
            file.writestr("x/data/0", writer.data["0"])
        try:
            found = read_torch(path)
        except FileFormatError:
            continue
        assert isinstance(found, dict | list | tuple | str | int | float | bool | None | np.ndarray | Module)


def test_nested_without_end(tmp_path):
    """Lists in lists, a list in itself, and doubling by references cost what the pickle is long."""
    deep = read_torch(of_program(tmp_path / "deep.pt", b"]" * 200_000 + b"a" * 199_999 + b"."))
    assert len(deep) == 1
    itself = read_torch(of_program(tmp_path / "self.pt", b"]q\x00h\x00a."))
    assert itself[0] is itself
    doubled = b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([k]) + b"h" + bytes([k]) + b"eq" + bytes([k + 1]) for k in range(200)
    )
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="too late or too early"):
        read_torch(of_program(tmp_path / "doubled.pt", doubled + b"."))
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
    # What is deep must not be deep for whoever frees it, either.
    while deep:
        deep = deep[0]


# ---------------------------------------------------------------------------------------------------------- tensors

HUGE = 2**40
TENSORS = {
    "storage longer than its member": {"length": 4},
    "storage shorter than its member": {"length": 2},
    "storage of billions": {"length": HUGE},
    "negative storage": {"length": -1},
    "storage of another type": {"kind": "FloatStorage"},
    "storage that is not there": {"key": "99"},
    "storage elsewhere": {"key": "../data.pkl"},
    "storage with an absolute name": {"key": "/etc/passwd"},
    "empty name": {"key": ""},
    "huge size": {"size": (HUGE,), "strides": (1,)},
    "huge size without strides": {"size": (HUGE, HUGE), "strides": (0, 0)},
    "empty and huge": {"size": (0, 2**47), "strides": (1, 1)},
    "empty and huger": {"size": (0, 2**40, 2**40), "strides": (1, 1, 1)},
    "repeated numbers": {"size": (4,), "strides": (0,)},
    "negative stride": {"size": (3,), "strides": (-1,)},
    "negative size": {"size": (-1,), "strides": (1,)},
    "negative offset": {"offset": -1},
    "offset beyond": {"offset": 1},
    "stride beyond": {"size": (2,), "strides": (3,)},
    "more strides than sizes": {"size": (3,), "strides": (1, 1)},
    "many axes": {"size": (1,) * 40, "strides": (1,) * 40},
    "size of booleans": {"size": (True,), "strides": (1,)},
    "size of texts": {"size": ("3",), "strides": (1,)},
    "size as a list": {"size": [3], "strides": (1,)},
    "bfloat16": {"kind": "BFloat16Storage"},
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit(name, tmp_path):
    writer = Writer()
    program = Raw(writer.tensor(np.arange(3.0), **TENSORS[name]))
    path = write(tmp_path / "x.pt", program, writer=writer)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=r"x\.pt (describes|has|holds) "):
            read_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 1e6, "it was refused before anything was allocated"
    finally:
        tracemalloc.stop()


def test_many_tensors_of_one_storage_are_views(tmp_path):
    array, writer = np.zeros(100_000), Writer()
    first = writer.storage(array)
    rest = b"".join(map(writer.value, (0, (100_000,), (1,), False, {})))
    one = named("torch._utils", "_rebuild_tensor_v2") + b"(h\x00" + rest + b"tR"
    path = write(tmp_path / "x.pt", Raw(first + b"q\x00](" + 1000 * one + b"e\x86"), writer=writer)
    tracemalloc.start()
    found = read_torch(path)[1]
    assert len(found) == 1000 and tracemalloc.get_traced_memory()[1] < 10 * array.nbytes
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------------------ archives


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members:
            file.writestr(name, data)
    return path


EMPTY = b"\x80\x02}."
ARCHIVES = {
    "no pickle": ([("x/a", b"")], "not one of PyTorch"),
    "two folders": ([("x/data.pkl", EMPTY), ("y/a", b"")], "not one of PyTorch"),
    "no folder": ([("data.pkl", EMPTY)], "does not lie in one folder"),
    "absolute": ([("x/data.pkl", EMPTY), ("/etc/passwd", b"")], "does not lie in one folder"),
    "upwards": ([("x/data.pkl", EMPTY), ("x/../../a", b"")], "does not lie in one folder"),
    "dot": ([("./data.pkl", EMPTY)], "does not lie in one folder"),
    "drive": ([("C:/data.pkl", EMPTY)], "does not lie in one folder"),
    "backslash": ([("x/data.pkl", EMPTY), ("x/..\\a", b"")], "does not lie in one folder"),
    "folder": ([("x/data.pkl", EMPTY), ("x/data/", b"")], "does not lie in one folder"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_another_form(name, tmp_path):
    members, message = ARCHIVES[name]
    with pytest.raises(FileFormatError, match=message):
        read_torch(archive(tmp_path / "x.pt", members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path):
    with pytest.raises(FileFormatError, match=r"two members 'x/data\.pkl'"):
        read_torch(archive(tmp_path / "x.pt", [("x/data.pkl", EMPTY), ("x/data.pkl", EMPTY)]))


def test_a_zip_bomb_is_not_inflated(tmp_path):
    """What is read must be stored as it is; what is compressed is not read."""
    bomb = bytes(10**8)
    path = archive(tmp_path / "x.pt", [("x/data.pkl", EMPTY + bomb)], zipfile.ZIP_DEFLATED)
    with pytest.raises(FileFormatError, match=r"'data\.pkl' compressed or encrypted"):
        read_torch(path)
    writer = Writer()
    extra = [("model/code/a.py", bytes(10**8))]
    honest = write(tmp_path / "y.pt", {"a": np.arange(3.0)}, writer=writer, extra=extra)
    del bomb, extra
    tracemalloc.start()
    np.testing.assert_array_equal(read_torch(honest)["a"], [0, 1, 2])
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()
    extra = [("model/data/0", bytes(8 * 10**6))]
    storage = write(tmp_path / "z.pt", {"a": np.zeros(10**6)}, leave_out=["0"], extra=extra)
    with pytest.raises(FileFormatError, match="'data/0' compressed or encrypted"):
        read_torch(storage)


def test_members_that_claim_more_than_there_is(tmp_path):
    """Sizes in the directory of the archive that are not those of the file."""
    path = write(tmp_path / "x.pt", {"a": np.arange(100.0)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    for size in (struct.pack("<II", 2**31, 2**31), struct.pack("<II", 900, 900)):
        changed = data.copy()
        changed[at + 20 : at + 28] = size
        path.write_bytes(changed)
        with pytest.raises(FileFormatError, match=r"x\.pt "):
            read_torch(path)


def test_truncated_damaged_and_foreign_files(tmp_path):
    path = write(tmp_path / "x.pt", {"a": np.arange(100.0), "b": [1, 2]})
    data = path.read_bytes()
    for n in (*range(0, len(data), 7), len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(FileFormatError, match=r"no zip archive, or a truncated one"):
            read_torch(path)
    rng = np.random.default_rng(0)
    for _ in range(500):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[at] = rng.integers(256)
        path.write_bytes(changed)
        try:
            found = read_torch(path)
        except FileFormatError as error:
            assert "x.pt" in str(error) and "\n" not in str(error)
        else:
            assert isinstance(found, dict)
    for content in (b"", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"PK\x03\x04", b"text\n"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"give a \.pt or \.pth file of PyTorch 1\.6 or newer"):
            read_torch(path)
    for wrong in (tmp_path / "missing.pt", tmp_path, 3, ""):
        with pytest.raises(InputError):
            read_torch(wrong)


def test_encrypted_members_are_refused(tmp_path):
    path = archive(tmp_path / "x.pt", [("x/data.pkl", EMPTY)])
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="compressed or encrypted"):
        read_torch(path)
