"""What a CUDA text declares: the arrays that a kernel takes, and where the fields of its struct of scalars lie."""

import re
import struct
from functools import cache

import numpy as np

from fastdesc.errors import DeviceError, nearest

_SCALARS = {
    "bool": np.bool_, "int": np.int32, "unsigned": np.uint32, "long long": np.int64, "float": np.float32,
    "double": np.float64,
}  # fmt: skip
_KERNEL = re.compile(
    r"(?:template\s*<([^>]*)>\s*)?__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)"
)
PLAIN_STRUCT = re.compile(r"(?:template\s*<([^>]*)>\s*)?struct\s+(\w+)\s*\{([^{}]*)\};")


@cache
def kernels(text):
    """Return {kernel: (template parameters, parameters)} as they stand in a text."""
    return {name: (template, declared) for template, name, declared in _KERNEL.findall(without_comments(text))}


@cache
def structs(text):
    """Return {struct: (template parameters, fields)} of the structs without functions, as they stand in a text."""
    return {name: (template, fields) for template, name, fields in PLAIN_STRUCT.findall(without_comments(text))}


def without_comments(text):
    """Return a text without what follows //."""
    return re.sub(r"//[^\n]*", "", text)


def parameters(text, file, name):
    """Return [(name, is_pointer, dtype), ...] of a kernel's parameters; dtype None for a pointer to anything else.

    `text` is that of kernels/<file>, self-contained. The last parameter is the struct that holds all scalars; its dtype
    has a field for each, where the compiler puts it. A type of a template, S or real<S>, is resolved by the name
    expression: real<S> is float both for S = float and S = Dual<float>.

    Raises
    ------
    DeviceError
        For a kernel that the file does not have, or that does not take arrays and one plain struct after them.
    """
    bare, _, given = name.partition("<")
    known = kernels(text)
    if bare not in known:
        raise DeviceError(f"kernels/{file} has no kernel {bare!r}{nearest(bare, known)}")
    template, declared = known[bare]
    types = _template_types(template, given.strip().removesuffix(">"))
    *arrays, last = (declaration.replace("__restrict__", " ") for declaration in declared.split(","))
    if any("*" not in declaration for declaration in arrays) or "*" in last:
        raise DeviceError(f"{bare} of kernels/{file} must take arrays and, after them, one struct with its scalars")
    return [*(_array(declaration, types) for declaration in arrays), _scalars(text, file, last, types)]


def _template_types(template, given):
    """Return what the parameters of a template stand for, {"S": "float", ...}."""
    values = [v.strip() for v in given.split(",")] if given else []
    return dict(zip([p.split()[-1] for p in template.split(",") if p.strip()], values, strict=True))


def _resolved(kind, types):
    """Return the type that a template's type stands for."""
    real = re.fullmatch(r"real<(\w+)>", kind)
    return types[real[1]].removeprefix("Dual<").removesuffix(">") if real else types.get(kind, kind)


def _array(declaration, types):
    *words, name = declaration.replace("*", " ").split()
    dtype = _SCALARS.get(_resolved(" ".join(w for w in words if w != "const"), types))
    return name, True, dtype and np.dtype(dtype)


def _scalars(text, file, declaration, types):
    *words, name = declaration.split()
    kind = " ".join(w for w in words if w != "const")
    bare, _, given = kind.partition("<")
    if bare not in structs(text):
        raise DeviceError(f"argument {name} is of type {kind}; it must be a plain struct of scalars in kernels/{file}")
    template, fields = structs(text)[bare]
    own = _template_types(template, _resolved(given.removesuffix(">"), types))
    members = []
    for field in fields.split(";"):
        *words, member = field.split() or [None]
        if member:
            kind = _resolved(" ".join(words), own)
            if kind not in _SCALARS:
                raise DeviceError(f"{bare}.{member} is of type {kind}; a scalar is one of {', '.join(_SCALARS)}")
            members.append((member, _SCALARS[kind]))
    return name, False, np.dtype(members, align=True)


def packing(dtype):
    """Return the struct.Struct that packs the fields of a dtype, in a tenth of the time that NumPy takes."""
    chars = [dtype[name].char for name in dtype.names]
    widest = max(chars, key=struct.calcsize)
    return struct.Struct("@" + "".join(chars) + "0" + widest)    # that fills it up to the alignment of the widest
