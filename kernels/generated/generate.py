"""Writes tensor_algebra.cuh from the Numba text: run `python kernels/generated/generate.py` after a change there.

Tensor algebra and monomials are expressions on tuples, which mean the same in Python and in C++: names, products, sums,
entries a[k], calls of each other, and tuples. Tuples of 3, 6 and 10 become Vector, Matrix and Tensor of
kernels/entries.cuh. A test says when the file is not what this text makes (tests/kernels/test_generated.py).
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).resolve().parent / "tensor_algebra.cuh"
SOURCES = {
    "fastdesc/numerics/monomials.py": ("monomials_2", "monomials_3", "pull_2", "pull_3"),
    "fastdesc/descriptors/gaussian_moments/tensor_products.py": None,
}
"""File -> functions that are written, all of them for None."""
TYPES = {1: "S", 3: "Vector<S>", 6: "Matrix<S>", 10: "Tensor<S>"}
"""Number of entries -> C++ type."""
LONGER = {"slice_x": 10}
"""Functions that leave the last entries of their arguments out -> number of entries."""
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
WIDTH = 120

HEAD = """// Written by kernels/generated/generate.py from the Numba text: change it there, not here.
#pragma once
#include "entries.cuh"

namespace fd {
"""


class Function:
    """A function of the Numba text, as C++.

    Parameters
    ----------
    node : ast.FunctionDef
    known : dict of str to Function
        Those before it, which it may call.
    """

    def __init__(self, node, known):
        self.node, self.known, self.name = node, known, node.name
        self.sizes = {a.arg: LONGER.get(self.name, 1) for a in node.args.args}
        for found in ast.walk(node):
            self._note_size(found)
        self.parameters = [self.sizes[a.arg] for a in node.args.args]
        *self.assignments, returned = node.body[1:]
        if not isinstance(returned, ast.Return):
            raise TypeError(f"{self.name}, line {returned.lineno}: a function ends with return")
        self.lines = [line for statement in self.assignments for line in self._assigned(statement)]
        self.returned = returned.value
        self.size = self._size(returned.value)

    def _note_size(self, node):
        """Tuples are as long as their entries and the functions they are handed to say."""
        if isinstance(node, ast.Subscript) and node.value.id in self.sizes:
            name, last = node.value.id, node.slice.value
            self.sizes[name] = max(self.sizes[name], next(n for n in (3, 6, 10) if n > last))
        elif isinstance(node, ast.Call) and node.func.id in self.known:
            for argument, size in zip(node.args, self.known[node.func.id].parameters, strict=True):
                if isinstance(argument, ast.Name) and argument.id in self.sizes:
                    self.sizes[argument.id] = max(self.sizes[argument.id], size)

    def _assigned(self, statement):
        (target,), value = statement.targets, statement.value
        names, values = ([target], [value]) if isinstance(target, ast.Name) else (target.elts, value.elts)
        for name, x in zip(names, values, strict=True):
            self.sizes[name.id] = self._size(x)
            yield f"const {TYPES[self.sizes[name.id]]} {name.id} = {self._text(x)};"

    def _size(self, node):
        if isinstance(node, ast.Tuple):
            return len(node.elts)
        if isinstance(node, ast.Name):
            return self.sizes[node.id]
        if isinstance(node, ast.Call) and node.func.id != "dot":
            return self.known[node.func.id].size
        return 1

    def _text(self, node):
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Constant):
            return f"real<S>({node.value:g})"
        if isinstance(node, ast.Subscript):
            return f"{node.value.id}[{node.slice.value}]"
        if isinstance(node, ast.Call):
            return f"{node.func.id}({', '.join(map(self._text, node.args))})"
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            left, right = self._text(node.left), self._text(node.right)
            product = isinstance(node.op, ast.Mult)
            if product and isinstance(node.left, ast.BinOp) and not isinstance(node.left.op, ast.Mult):
                left = f"({left})"
            if isinstance(node.right, ast.BinOp) and (product or not isinstance(node.right.op, ast.Mult)):
                right = f"({right})"
            return f"{left} {OPERATORS[type(node.op)]} {right}"
        raise TypeError(f"{self.name}, line {node.lineno}: {ast.unparse(node)} is no expression that C++ shares")

    def text(self):
        """The C++ function, its docstring as comment."""
        arguments = [
            f"{TYPES[n] if n == 1 else f'const {TYPES[n]}&'} {a.arg}"
            for n, a in zip(self.parameters, self.node.args.args, strict=True)
        ]
        head = wrapped(f"__device__ __forceinline__ {TYPES[self.size]} {self.name}(", arguments, ") {")
        body = [f"    {line}" for line in self.lines]
        if isinstance(self.returned, ast.Tuple):
            body += wrapped("    return {", [self._text(x) for x in self.returned.elts], "};")
        else:
            body += wrapped(f"    return {self.returned.func.id}(", [self._text(x) for x in self.returned.args], ");")
        comment = " ".join(ast.get_docstring(self.node).split())
        return "\n".join([f"// {comment}", "template <typename S>", *head, *body, "}"])


def wrapped(begin, items, end):
    """Lines of at most WIDTH characters: begin, items with commas between, end."""
    lines, indent = [begin], " " * len(begin)
    for k, item in enumerate(items):
        piece = item + (end if k == len(items) - 1 else ",")
        if lines[-1].strip() and len(lines[-1]) + len(piece) + 1 > WIDTH:
            lines.append(indent + piece)
        else:
            lines[-1] += piece if lines[-1] == begin else f" {piece}"
    return lines


def generated():
    """Return the text of tensor_algebra.cuh."""
    known = {}
    for path, names in SOURCES.items():
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.FunctionDef) and (names is None or node.name in names):
                known[node.name] = Function(node, known)
    return "\n".join([HEAD, *(f"{function.text()}\n" for function in known.values()), "}  // namespace fd", ""])


if __name__ == "__main__":
    TARGET.write_text(generated())
