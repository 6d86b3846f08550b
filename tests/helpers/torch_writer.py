"""Files of the form that PyTorch writes, made without it: a zip archive of a pickle and of the bytes of tensors.

Pickles are written instruction by instruction, so that tests can also write what no honest program would.
"""

import itertools
import struct
import zipfile

import numpy as np

STORAGES = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
            "b1": "BoolStorage", "u1": "ByteStorage"}    # fmt: skip


class Module:
    """A module of TorchScript to be written: full name of its class, members by name."""

    def __init__(self, name, **members):
        self.name, self.members = name, members


class Raw(bytes):
    """Instructions that are written as they are."""


def named(module, name):
    """The instruction that pushes a name."""
    return f"c{module}\n{name}\n".encode()


def text(s):
    data = s.encode()
    return b"X" + struct.pack("<I", len(data)) + data


class Writer:
    """Collects the bytes of tensors while values become instructions."""

    def __init__(self):
        self.data, self.keys = {}, itertools.count()

    def value(self, x):
        """Instructions that push a value."""
        if isinstance(x, Raw):
            return bytes(x)
        if x is None or isinstance(x, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[x]
        if isinstance(x, int):
            return b"J" + struct.pack("<i", x) if abs(x) < 2**31 else b"\x8a\x08" + struct.pack("<q", x)
        if isinstance(x, float):
            return b"G" + struct.pack(">d", x)
        if isinstance(x, str):
            return text(x)
        if isinstance(x, tuple):
            return b"(" + b"".join(map(self.value, x)) + b"t"
        if isinstance(x, list):
            return b"](" + b"".join(map(self.value, x)) + b"e"
        if isinstance(x, dict):
            return named("collections", "OrderedDict") + b")R" + self._items(x)
        if isinstance(x, Module):
            return named(*x.name.rsplit(".", 1)) + b")\x81}" + self._items(x.members) + b"b"
        return self.tensor(x)

    def _items(self, items):
        return b"(" + b"".join(self.value(k) + self.value(v) for k, v in items.items()) + b"u"

    def storage(self, array, kind=None, key=None, length=None):
        """Instructions that push a storage; what is given is said of it instead of the truth."""
        own = str(next(self.keys))
        self.data[own] = array.tobytes()
        kind = STORAGES[array.dtype.str[1:]] if kind is None else kind
        parts = text("storage"), named("torch", kind), text(own if key is None else key), text("cpu")
        return b"(" + b"".join(parts) + self.value(array.size if length is None else length) + b"tQ"

    def tensor(self, array, offset=0, size=None, strides=None, **storage):
        """Instructions that push a tensor."""
        array = np.asarray(array)
        size = array.shape if size is None else size
        strides = tuple(int(s) // array.itemsize for s in array.strides) if strides is None else strides
        stored = array.T if array.ndim > 1 and array.flags.f_contiguous else np.ascontiguousarray(array)
        parts = self.storage(stored, **storage), *map(self.value, (offset, size, strides, False, {}))
        return named("torch._utils", "_rebuild_tensor_v2") + b"(" + b"".join(parts) + b"tR"


def write(path, tree, root="model", writer=None, extra=(), leave_out=()):
    """Write what `tree` is, a value or Raw instructions, as torch.save and torch.jit.save do."""
    writer = Writer() if writer is None else writer
    program = b"\x80\x02" + writer.value(tree) + b"."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for key, data in writer.data.items():
            if key not in leave_out:
                file.writestr(f"{root}/data/{key}", data)
        file.writestr(f"{root}/data.pkl", program)
        file.writestr(f"{root}/version", "3\n")
        for name, data in extra:
            file.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path
