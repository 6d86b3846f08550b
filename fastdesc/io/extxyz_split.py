"""Extended XYZ, plain or gzip, taken apart into the text of its frames: a stream, with memory for one frame.

In nearly all files frames follow each other without a blank line and lines end with one byte: these are cut out of the
bytes. At the first thing out of the ordinary a reader of lines takes over, which copes with everything or says what is
wrong.
"""

import gzip
import io
import zlib
from itertools import islice
from pathlib import Path

import numpy as np

from fastdesc.errors import FileFormatError
from fastdesc.io.extxyz_numbers import skip_lines

PIECE = 1 << 18
"""Bytes read at a time."""
MOST_DIGITS = 9    # of a number of atoms


class Blocks:
    """The frames of a file as text: iteration yields (line, n_atoms, text), where `text` begins with the comment line.

    What cannot be taken apart is yielded as a FileFormatError; iteration goes on with the next frame that has the
    looks of one.
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
        opened = gzip.open if str(path).lower().endswith(".gz") else open
        try:
            with opened(path, "rb") as stream:
                self._raw = getattr(stream, "fileobj", None) or getattr(stream, "raw", None)
                rest, number = yield from _ordinary(stream)
                lines = io.TextIOWrapper(io.BufferedReader(_Joined(rest, stream)), encoding="utf-8")
                yield from _blocks(lines, path, number)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield FileFormatError(f"{path} is not a complete gzip file ({error}); copy or compress it again")
        except UnicodeDecodeError:
            yield FileFormatError(f"{path} is not a text file; give extended XYZ or another format ASE reads")


def _ordinary(stream):
    """Yield frames as `Blocks` does, up to one that needs a closer look.

    Returns
    -------
    bytes that were read and not taken, and the number of lines before them
    """
    data, at, number = bytearray(), 0, 0

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

    while True:
        if at > PIECE:
            del data[:at]
            at = 0
        begin = end_of(1, at)
        count = data[at:begin].strip()
        if begin < 0 or not count.isdigit() or len(count) > MOST_DIGITS:
            break
        end = end_of(int(count) + 1, begin)
        if end < 0 or data.find(b"\r", begin, end) >= 0:
            break
        yield number + 1, int(count), data[begin:end].decode()
        at, number = end, number + int(count) + 2
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


def _blocks(lines, path, number):
    """Yield the frames of an iterator of lines as `Blocks` does; `number` lines came before."""
    lost, waiting = False, []
    while True:
        line = waiting.pop() if waiting else next(lines, None)
        if line is None:
            return
        number += 1
        if not line.strip():
            continue
        n_atoms = int(line) if line.strip().isdecimal() else -1
        if lost and n_atoms >= 0:
            # After nonsense a lone number is believed when a description follows it.
            comment = next(lines, None)
            if comment is None:
                return
            waiting.append(comment)
            if "=" not in comment:
                continue
        if n_atoms < 0:
            if not lost:
                found = line.strip()[:40]
                yield FileFormatError(
                    f"{path}, line {number}: expected the number of atoms of a frame and found {found!r}"
                )
            lost = True
            continue
        lost = False
        block = waiting + list(islice(lines, n_atoms + 1 - len(waiting)))
        waiting = []
        if len(block) < n_atoms + 1:
            yield FileFormatError(
                f"{path} ends inside a frame: line {number} promises {n_atoms} atoms and "
                f"{max(0, len(block) - 1)} follow; the file is cut short"
            )
            return
        yield number, n_atoms, "".join(block)
        number += n_atoms + 1
