"""Extended XYZ, plain or gzip, taken apart into the text of its frames: a stream, with memory for one frame.

In nearly all files frames follow each other without a blank line and lines end with one byte: these are cut out of the
bytes. At the first thing out of the ordinary a reader of lines takes over, which copes with everything or says what is
wrong. A frame is accepted when something that can begin the next one follows it, so damage costs the frame it is in.
"""

import gzip
import io
import re
import zlib
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np

from fastdesc.errors import FileFormatError
from fastdesc.io.extxyz_numbers import skip_lines

PIECE = 1 << 18
"""Bytes read at a time."""
MOST_DIGITS = 9    # of a number of atoms
SHORTEST_LINE = 8
"""Bytes of a line that says where an atom is."""
LOOKED_AHEAD = 10_000
"""Atoms of a frame that are looked at to tell its beginning from a number in a comment."""
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)
"""What a damaged gzip file raises."""
LONE_NUMBER = re.compile(rb"\n[ \t]*\d+[ \t]*\n")
VECTORS = ("VEC1", "VEC2", "VEC3")
"""Lines after the atoms with the vectors of the cell, as AMS writes them."""


class Blocks:
    """The frames of a file as text: iteration yields (line, n_atoms, text), where `text` begins with the comment line.

    What cannot be taken apart is yielded as a FileFormatError; iteration goes on with the next frame that has the
    looks of one. After its atoms a text may hold the lines of `VECTORS`.
    """

    def __init__(self, path):
        self.path = path
        self.size = Path(path).stat().st_size
        self._raw = None

    def fraction(self):
        """Part of the file that was read, roughly."""
        try:
            return min(1.0, self._raw.tell() / self.size)
        except (AttributeError, ValueError, OSError, ZeroDivisionError):
            return 0.0

    def __iter__(self):
        path = self.path
        compressed = str(path).lower().endswith(".gz")
        try:
            with (gzip.open if compressed else open)(path, "rb") as stream:
                self._raw = getattr(stream, "fileobj", None) or getattr(stream, "raw", None)
                most = (1 << 62) if compressed else self.size // SHORTEST_LINE
                rest, number = yield from _ordinary(stream, most)
                raw = io.BufferedReader(_Joined(rest, stream))
                yield from _blocks(io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape"), path, number)
        except BROKEN as error:
            yield FileFormatError(f"{path} is not a complete gzip file ({error}); copy or compress it again")


def _ordinary(stream, most):
    """Yield frames of at most `most` atoms as `Blocks` does, up to one that needs a closer look.

    Returns
    -------
    bytes that were read and not taken, and the number of lines before them
    """
    data, at, number = bytearray(), 0, 0
    skip_lines(np.empty(0, np.uint8), 0, 0)    # Numba may hold what it compiles for; data must be free to grow

    def end_of(n, at):
        """Where n lines from `at` on end; -1 where the stream ends before."""
        while True:
            at, n = skip_lines(np.frombuffer(data, np.uint8), at, n)
            if n == 0:
                return at
            piece = stream.read1(PIECE)
            if not piece:
                return -1
            data.extend(piece)

    def count_at(begin, end):
        """Number of atoms in a line; -1 where there is none."""
        word = data[begin:end].strip()
        return int(word) if word.isdigit() and len(word) <= MOST_DIGITS else -1

    begin = end_of(1, at)
    if data.startswith(BOM_UTF8):    # some editors begin files with a mark
        del data[: len(BOM_UTF8)]
        begin = max(-1, begin - len(BOM_UTF8))
    count = count_at(at, begin) if begin >= 0 else -1
    while 0 <= count <= most:
        end = end_of(count + 1, begin)
        if end < 0 or data.find(b"\r", begin, end) >= 0 or data.find(b"\0", begin, end) >= 0:
            break
        # Where lines are missing, the number of atoms of the next frame stands among them, or no number behind them.
        first = data.find(b"\n", begin)
        if LONE_NUMBER.search(data, first, end):
            break
        if count and data[begin:first].strip().isdigit():
            second = data[first + 1 : data.find(b"\n", first + 1)]
            if not _is_plain_atom(second.decode("utf-8", "replace")):
                break
        try:
            after = end_of(1, end)
        except BROKEN:
            break
        next_count = count_at(end, after) if after >= 0 else -1
        if next_count < 0 and end < len(data):
            break
        try:
            text = data[begin:end].decode()
        except UnicodeDecodeError:
            break
        yield number + 1, count, text
        number += count + 2
        at, begin, count = end, after, next_count
        if at > PIECE:
            del data[:at]
            at, begin = 0, begin - at
    return bytes(data[at:]), number


class _Joined(io.RawIOBase):
    """Bytes, and then the rest of a stream."""

    def __init__(self, data, stream):
        self.data, self.stream = memoryview(data), stream

    def readable(self):
        return True

    def readinto(self, buffer):
        n = min(len(buffer), len(self.data))
        if not n:
            return self.stream.readinto(buffer)
        buffer[:n], self.data = self.data[:n], self.data[n:]
        return n


class _Lines:
    """Lines that can be looked at before they are taken.

    Attributes
    ----------
    number : int
        Lines that were taken.
    error : Exception or None
        What ended the lines, where it was not the end of the file.
    """

    def __init__(self, lines, number):
        self.lines, self.ahead, self.first, self.number, self.error = iter(lines), [], 0, number, None

    def __getitem__(self, k):
        """The line `k` lines ahead; None behind the end."""
        while self.first + k >= len(self.ahead):
            try:
                line = next(self.lines, None) if self.error is None else None
            except BROKEN as error:
                self.error, line = error, None    # for when what came before it is taken
            if line is None:
                return None
            self.ahead.append(line)
        return self.ahead[self.first + k]

    def take(self, n):
        """Take n lines, which were looked at."""
        taken = self.ahead[self.first : self.first + n]
        self.first += n
        self.number += n
        if self.first > 1000 and 2 * self.first > len(self.ahead):
            del self.ahead[: self.first]
            self.first = 0
        return taken


def _blocks(lines, path, number):
    """Yield the frames of an iterator of lines as `Blocks` does; `number` lines came before."""
    lines = _Lines(lines, number)
    while (line := lines[0]) is not None:
        n_atoms = _count(line)
        if not line.strip():
            lines.take(1)
        elif n_atoms < 0:
            found = line.strip()[:40].encode("utf-8", "replace").decode()
            if lines.number == 0 and ("\0" in line or not _is_text(line)):
                yield FileFormatError(f"{path} is not a text file; give extended XYZ or another format ASE reads")
            else:
                yield FileFormatError(
                    f"{path}, line {lines.number + 1}: expected the number of atoms of a frame and found {found!r}"
                )
            lines.take(1)
            _seek(lines)
        else:
            yield _frame(lines, n_atoms, path)
    if lines.error is not None:
        raise lines.error


def _frame(lines, n_atoms, path):
    """Take the frame that begins here and return it, or the FileFormatError that says what is wrong with it."""
    number = lines.number + 1
    there = f"line {number} promises {n_atoms} atoms"
    k = 1
    while k < n_atoms + 2:
        if lines[k] is None:
            if lines.error is not None:
                raise lines.error
            lines.take(k)
            return FileFormatError(
                f"{path} ends inside a frame: {there} and {max(0, k - 2)} follow; the file is cut short"
            )
        if _begins_a_frame(lines, k) and (k > 1 or not _is_plain_atom(lines[2])):
            lines.take(k)
            return FileFormatError(
                f"{path}, frame that starts at line {number}: {there} and {max(0, k - 2)} follow before the next "
                "frame; a line is missing, or the file was written on after a crash"
            )
        k += 1
    if n_atoms and lines[k] is not None and _is_atom(lines[k]) and not _vector(lines[k]):
        lines.take(k)
        _seek(lines)
        return FileFormatError(
            f"{path}, frame that starts at line {number}: {there} and more follow; there is a line too many"
        )
    while lines[k] is not None and _vector(lines[k]):
        k += 1
    text = "".join(lines.take(k)[1:])
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return FileFormatError(
            f"{path} is not a text file in the frame that starts at line {number} (it holds the byte "
            f"{text[error.start].encode('utf-8', 'surrogateescape')!r}); write it in UTF-8"
        )
    if "\0" in text:
        return FileFormatError(f"{path}, frame that starts at line {number}: it holds bytes that are zero")
    return number, n_atoms, text


def _seek(lines):
    """Take lines up to one that begins a frame."""
    while lines[0] is not None and not _begins_a_frame(lines, 0):
        lines.take(1)


def _begins_a_frame(lines, k):
    """Whether the line `k` lines ahead is the number of atoms of a frame.

    An atom must follow its comment; and where that could be a line of an atom too, as in a file whose comments are
    numbers, the frame must end as frames do.
    """
    n_atoms = _count(lines[k])
    if n_atoms < 0 or lines[k + 1] is None:
        return False
    if n_atoms == 0:
        return lines[k + 2] is None or _count(lines[k + 2]) >= 0
    if lines[k + 2] is None or not _is_atom(lines[k + 2]):
        return False
    if not _is_atom(lines[k + 1]):
        return True
    if n_atoms > LOOKED_AHEAD:
        return False
    after = lines[k + 2 + n_atoms]
    return _is_atom(lines[k + 1 + n_atoms] or "") and (after is None or not after.strip() or _count(after) >= 0)


def _is_text(line):
    """Whether a line is free of bytes that are not UTF-8."""
    return not any("\udc80" <= sign <= "\udcff" for sign in line)


def _count(line):
    """The number of atoms a line promises; -1 for any other line."""
    word = line.strip()
    return int(word) if word.isdecimal() and word.isascii() and len(word) <= MOST_DIGITS else -1


def _is_atom(line):
    """Whether a line has the looks of an atom: four words, three of them numbers, and no value by name."""
    words = line.split()
    if len(words) < 4 or "=" in line:
        return False
    numbers = 0
    for word in words:
        try:
            float(word)
        except ValueError:
            continue
        numbers += 1
        if numbers == 3:
            return True
    return False


def _is_plain_atom(line):
    """Whether a line has the looks of an atom of plain XYZ, which begins with its element."""
    return line.lstrip()[:1].isalpha() and _is_atom(line)


def _vector(line):
    """Whether a line is a vector of the cell."""
    return line.lstrip()[:4] in VECTORS
