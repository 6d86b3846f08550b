"""The pickle of a file of PyTorch, followed step by step by a machine that cannot do harm.

A pickle is a program; Python's own reader runs it, and with it any function that it names. This machine knows the
instructions of protocol 2 that PyTorch writes, and builds containers, numbers, texts and tensors. A name that is not in
its short list is refused as soon as it is read, before anything is called; what is in the list are marks of ours, not
functions of Python or of PyTorch. Names of modules of TorchScript (`__torch__..`) become `Module`, a name with a dict.

What is built is no larger than the pickle: each instruction makes one object at most, and references cost nothing.
"""

import struct

from fastdesc.errors import FileFormatError
from fastdesc.torch_files.tensors import DTYPES

MOST_BYTES = 64 << 20
"""Of a pickle; those of models have some kilobytes."""
LONGEST_NUMBER = 16
"""Bytes of a whole number."""


class Module:
    """A module of TorchScript: its full name, and a dict of what belongs to it."""

    def __init__(self, name):
        self.name, self.members = name, {}

    @property
    def kind(self):
        """Last part of the name."""
        return self.name.rpartition(".")[2]


class _Name:
    """A mark for a name of the list; `text` is the name."""

    def __init__(self, text):
        self.text = text


STORAGES = {("torch", name): name for name in DTYPES}
CALLED = {
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"),
    ("torch.jit._pickle", "build_intlist"), ("torch.jit._pickle", "build_doublelist"),
    ("torch.jit._pickle", "build_boollist"), ("torch.jit._pickle", "build_tensorlist"),
    ("torch.jit._pickle", "restore_type_tag"),
}  # fmt: skip
MODULES = "__torch__."
_MARK = object()


def run(program, storages, path):
    """Return what a pickle describes.

    Parameters
    ----------
    program : bytes
    storages : Storages
    path : Path
        For messages.

    Raises
    ------
    FileFormatError
        For any name but those listed, another instruction, or a program that ends before it should.
    """
    if len(program) > MOST_BYTES:
        raise FileFormatError(f"{path} holds a pickle of {len(program)} bytes, and {MOST_BYTES} are allowed")
    machine = _Machine(program, storages, path)
    try:
        return machine.run()
    except FileFormatError:
        raise
    except (LookupError, ArithmeticError, ValueError, TypeError, struct.error) as error:    # text that is none
        raise machine.refused(f"cannot be followed at byte {machine.at}") from error


class _Machine:
    def __init__(self, program, storages, path):
        self.program, self.storages, self.path = program, storages, path
        self.at, self.stack, self.memo = 0, [], {}

    def refused(self, what):
        return FileFormatError(
            f"{self.path} holds a pickle that {what}; models have containers and tensors alone: do not trust this file"
        )

    def run(self):
        if self.program[:2] != b"\x80\x02":    # its name, and 2
            raise self.refused("is not of protocol 2, which PyTorch writes")
        self.at = 2
        while True:
            code = self._bytes(1)
            if code == b".":
                break
            step = _STEPS.get(code)
            if step is None:
                raise self.refused(f"has the instruction {code!r} at byte {self.at - 1}")
            step(self)
        if len(self.stack) != 1 or self.at != len(self.program):
            raise self.refused("ends too late or too early")
        return self._checked(self.stack[0])

    # ------------------------------------------------------------------------------------------------ reading

    def _bytes(self, n):
        if self.at + n > len(self.program):
            raise self.refused("ends too early")
        self.at += n
        return self.program[self.at - n : self.at]

    def _number(self, form):
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _line(self):
        end = self.program.find(b"\n", self.at)
        if not 0 <= end - self.at <= 1000:
            raise self.refused(f"has a name without an end at byte {self.at}")
        return self._bytes(end + 1 - self.at)[:-1].decode("ascii")

    # -------------------------------------------------------------------------------------------------- stack

    def _pop(self):
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refused(f"takes what is not there at byte {self.at}")
        return self.stack.pop()

    def _pop_value(self):
        return self._checked(self._pop())

    def _to_mark(self, of_tuple=False):
        for k in range(len(self.stack) - 1, -1, -1):
            if self.stack[k] is _MARK:
                items = self.stack[k + 1 :]
                del self.stack[k:]
                return [self._checked(item, of_tuple) for item in items]
        raise self.refused(f"goes back to a mark that is not there at byte {self.at}")

    def _checked(self, value, of_tuple=False):
        """A value that may stand in a container: no mark of ours, but types of storages in tuples."""
        if value is _MARK or isinstance(value, _Name) or (isinstance(value, _StorageType) and not of_tuple):
            raise self.refused(f"uses a name as a value at byte {self.at}")
        return value

    # ------------------------------------------------------------------------------------------- instructions

    def push(self, value):
        self.stack.append(value)

    def text(self):
        n = self._number("<I")
        self.push(self._bytes(n).decode("utf-8"))

    def long(self):
        n = self._number("<B")
        if n > LONGEST_NUMBER:
            raise self.refused(f"has a number of {n} bytes")
        self.push(int.from_bytes(self._bytes(n), "little", signed=True))

    def tuple_of(self, n):
        items = [self._checked(self._pop(), True) for _ in range(n)]
        self.push(tuple(items[::-1]))

    def append(self):
        value = self._pop_value()
        self._top(list).append(value)

    def appends(self):
        items = self._to_mark()
        self._top(list).extend(items)

    def set_item(self):
        value, key = self._pop_value(), self._pop_value()
        self._set(self._top(dict), [key, value])

    def set_items(self):
        items = self._to_mark()
        self._set(self._top(dict), items)

    def _top(self, kind):
        if not self.stack or type(self.stack[-1]) is not kind:
            raise self.refused(f"fills what is no {kind.__name__} at byte {self.at}")
        return self.stack[-1]

    def _set(self, target, items):
        if len(items) % 2:
            raise self.refused(f"has a key without a value at byte {self.at}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise self.refused(f"has a key that is neither text nor whole number at byte {self.at}")
            target[key] = value

    def put(self, form):
        key = self._number(form)
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refused(f"keeps what is not there at byte {self.at}")
        self.memo[key] = self.stack[-1]

    def get(self, form):
        key = self._number(form)
        if key not in self.memo:
            raise self.refused(f"asks for number {key}, which it has not kept")
        self.push(self.memo[key])

    def name(self):
        """A name: one of the list, or that of a module; any other ends the reading."""
        module, name = self._line(), self._line()
        known = (module, name) in CALLED or (module, name) in STORAGES
        if not known and not f"{module}.".startswith(MODULES):
            raise self.refused(f"names {f'{module}.{name}'[:80]!r}, which is not allowed")
        self.push(_Name(f"{module}.{name}"))

    def new(self):
        """A module of TorchScript, empty."""
        arguments, cls = self._pop(), self._pop()
        if not isinstance(cls, _Name) or not cls.text.startswith(MODULES) or arguments != ():
            raise self.refused(f"makes an object of what is no module at byte {self.at}")
        self.push(Module(cls.text))

    def build(self):
        state = self._pop()
        if not self.stack or type(self.stack[-1]) is not Module or type(state) is not dict:
            # An OrderedDict of weights is followed by attributes, which say nothing of it.
            if self.stack and type(self.stack[-1]) is dict and type(state) is dict:
                return
            raise self.refused(f"gives attributes to what is no module at byte {self.at}")
        self.stack[-1].members.update(state)

    def persistent(self):
        """A storage: ("storage", type, key, place, length)."""
        if not self.stack or type(self.stack[-1]) is not tuple or len(self.stack[-1]) != 5:
            raise self.refused(f"has a reference that is no storage at byte {self.at}")
        word, kind, key, _, length = self.stack.pop()
        if word != "storage" or not isinstance(kind, _StorageType):
            raise self.refused(f"has a reference that is no storage at byte {self.at}")
        self.push(self.storages.storage(kind.name, key, length))

    def call(self):
        """What the names of the list stand for."""
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, _Name) or called.text.startswith(MODULES) or type(arguments) is not tuple:
            raise self.refused(f"calls what is no function at byte {self.at}")
        self.push(self._called(called.text.rpartition(".")[2], arguments))

    def _called(self, name, arguments):
        if name == "OrderedDict" and len(arguments) <= 1:
            return self._ordered(arguments[0] if arguments else [])
        if name == "_rebuild_tensor_v2" and 4 <= len(arguments) <= 7:
            return self.storages.tensor(*arguments[:4])
        if name == "_rebuild_parameter" and len(arguments) == 3:
            return arguments[0]
        if name.startswith("build_") and len(arguments) == 1 and type(arguments[0]) is list:
            return arguments[0]
        if name == "restore_type_tag" and len(arguments) == 2:
            return arguments[0]
        raise self.refused(f"calls {name} with {len(arguments)} arguments")

    def _ordered(self, pairs):
        found = {}
        if type(pairs) is not list:
            raise self.refused("makes a dict of what is no list")
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise self.refused("makes a dict of what are no pairs")
            self._set(found, list(pair))
        return found


class _StorageType:
    """A mark for the type of a storage, the one mark that may stand in a tuple."""

    def __init__(self, name):
        self.name = name


def _name(machine):
    machine.name()
    module, _, name = machine.stack[-1].text.rpartition(".")
    if (module, name) in STORAGES:
        machine.stack[-1] = _StorageType(name)


_STEPS = {
    b"(": lambda m: m.push(_MARK),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m._number("<i")),
    b"K": lambda m: m.push(m._number("<B")),
    b"M": lambda m: m.push(m._number("<H")),
    b"\x8a": _Machine.long,
    b"G": lambda m: m.push(m._number(">d")),
    b"X": _Machine.text,
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"t": lambda m: m.push(tuple(m._to_mark(True))),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"a": _Machine.append,
    b"e": _Machine.appends,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"q": lambda m: m.put("<B"),
    b"r": lambda m: m.put("<I"),
    b"h": lambda m: m.get("<B"),
    b"j": lambda m: m.get("<I"),
    b"c": _name,
    b"\x81": _Machine.new,
    b"b": _Machine.build,
    b"Q": _Machine.persistent,
    b"R": _Machine.call,
}
"""Instruction -> what the machine does; there are no others."""
