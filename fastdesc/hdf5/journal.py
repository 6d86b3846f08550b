"""A file that a kill at any moment leaves at its last commit: what HDF5 is written through.

HDF5 changes its indices in place, so a killed writer can leave a file that nobody can open. Here every write below the
length of the last commit is held back in memory; writes beyond it go to the file at once and count for nothing until
they are committed. A commit

    1. writes what was held back, and the new length, to `<path>.journal.new`, with a checksum;
    2. renames that to `<path>.journal`: the moment of the commit, atomic;
    3. applies it to the file.

Reading and writing both begin by taking the journal into account, so it does not matter whether step 3 was finished.

A reader has the state of the journal it began with. The next commit changes the file below it, so each read ends with
a look whether that journal is still the one in place; where it is not, the read fails with `Moved`, and whoever wants
to go on opens the file again.
"""

import io
import os
import struct
import zlib
from bisect import bisect_left, bisect_right
from pathlib import Path

from fastdesc.hdf5.locks import WriteLock, is_same, rename_whole


class Overlay:
    """Bytes that stand in for parts of a file: disjoint pieces in order of their offsets."""

    def __init__(self, pieces=()):
        self.starts, self.parts = [], []
        for offset, data in pieces:
            self.put(offset, data)

    def _overlapping(self, first, last):
        a = bisect_right(self.starts, first) - 1
        if a < 0 or self.starts[a] + len(self.parts[a]) <= first:
            a += 1
        return a, bisect_left(self.starts, last)

    def put(self, offset, data):
        """Replace bytes from `offset` on."""
        last = offset + len(data)
        a, b = self._overlapping(offset, last)
        if b == a + 1 and self.starts[a] <= offset and self.starts[a] + len(self.parts[a]) >= last:
            at = offset - self.starts[a]
            self.parts[a][at : at + len(data)] = data
            return
        starts, parts = [offset], [bytearray(data)]
        if a < b:
            if self.starts[a] < offset:
                starts.insert(0, self.starts[a])
                parts.insert(0, self.parts[a][: offset - self.starts[a]])
            end = self.starts[b - 1] + len(self.parts[b - 1])
            if end > last:
                starts.append(last)
                parts.append(self.parts[b - 1][last - end :])
        self.starts[a:b], self.parts[a:b] = starts, parts

    def lay_over(self, offset, buffer):
        """Write what is known of the bytes from `offset` on into `buffer`."""
        last = offset + len(buffer)
        for k in range(*self._overlapping(offset, last)):
            start, part = self.starts[k], self.parts[k]
            a, b = max(start, offset), min(start + len(part), last)
            buffer[a - offset : b - offset] = part[a - start : b - start]

    def cut(self, length):
        """Forget everything from `length` on."""
        a, _ = self._overlapping(length, length + 1)
        if a < len(self.starts) and self.starts[a] < length:
            del self.parts[a][length - self.starts[a] :]
            a += 1
        del self.starts[a:], self.parts[a:]

    def __iter__(self):
        return iter(zip(self.starts, self.parts, strict=True))

    def __len__(self):
        return len(self.starts)


MAGIC = b"fastdesc journal 1\n"
HEAD = struct.Struct("<QQ")    # length of the file, number of pieces
PIECE = struct.Struct("<QQ")    # offset, length
TRIES = 500
"""To read a file whose last commit is another one each time."""


def journal_of(path):
    """Name of the journal beside a file."""
    path = Path(path)
    return path.parent / (path.name + ".journal")


class Moved(OSError):
    """What was read belongs to a commit after the one the reader began with."""


def read_journal(path):
    """Return (length, [(offset, bytes), ...]) of the last commit to `path`, or None when there is none."""
    try:
        data = journal_of(path).read_bytes()
    except FileNotFoundError:
        return None
    return _parsed(data)


def _parsed(data):
    """Length and pieces of a journal's bytes; None where they are damaged."""
    body, check = data[:-4], data[-4:]
    if not body.startswith(MAGIC) or struct.pack("<I", zlib.crc32(body)) != check:
        return None
    at, pieces = len(MAGIC) + HEAD.size, []
    if at > len(body):
        return None
    length, n = HEAD.unpack_from(body, len(MAGIC))
    for _ in range(n):
        if at + PIECE.size > len(body):
            return None
        offset, size = PIECE.unpack_from(body, at)
        at += PIECE.size
        if at + size > len(body) or offset + size > length:
            return None
        pieces.append((offset, body[at : at + size]))
        at += size
    return length, pieces


class _Positioned(io.RawIOBase):
    """What both kinds of file share: a position, and reads through an overlay."""

    def __init__(self, fd):
        self.fd, self.at, self.over = fd, 0, Overlay()

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.length}[whence]
        self.at = base + offset
        return self.at

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self.length - self.at))
        got = 0
        while got < n:
            step = os.preadv(self.fd, [view[got:n]], self.at + got)
            if step == 0:    # beyond the end of what is on disk: a hole
                view[got:n] = bytes(n - got)
                break
            got += step
        self.over.lay_over(self.at, view[:n])
        self.at += n
        return n

    def close(self):
        if not self.closed:
            os.close(self.fd)
        super().close()


class CommittedFile(_Positioned):
    """The last committed state of a file, read-only, also while another process goes on writing it.

    Raises
    ------
    Moved
        From a read after which the journal is not the one in place any more; and when there is no journal.
    """

    def __init__(self, path):
        try:
            super().__init__(os.open(path, os.O_RDONLY))
        except FileNotFoundError as error:
            raise Moved(f"{path} is gone") from error
        self.name, self.failed = journal_of(path), False    # whether a read came too late
        try:
            # Open as long as the file is: no later journal can have the number of its inode.
            self._journal = os.open(self.name, os.O_RDONLY)
        except OSError as error:
            super().close()
            raise Moved(f"{path} has no journal") from error
        with os.fdopen(os.dup(self._journal), "rb") as f:
            journal = _parsed(f.read())
        self.length = os.fstat(self.fd).st_size
        if journal is not None and journal[0] <= self.length:    # a commit makes the file as long first
            self.length, pieces = journal
            self.over = Overlay(pieces)

    def has_moved(self):
        """Whether there was a commit since, or the file has its final name, or is gone."""
        return not is_same(self._journal, self.name)

    def readinto(self, buffer):
        n = super().readinto(buffer)
        if self.has_moved():
            self.failed = True    # HDF5 does not always hand on what is raised here
            raise Moved(f"{self.name.name} is of a later commit")
        return n

    def close(self):
        if not self.closed:
            os.close(self._journal)
        super().close()


class StreamedFile(_Positioned):
    """A file to read and write, whose failures wait for `check`.

    HDF5 cannot let go of a file that it failed to write: it tries again and again, fails every time, and crashes when
    Python ends. So a write for which the disk has no room is kept in memory, and the error with it.

    Parameters
    ----------
    path : Path
    flags : int
        Of os.open; by default the file is begun anew.
    """

    def __init__(self, path, flags=os.O_CREAT | os.O_TRUNC):
        super().__init__(os.open(path, os.O_RDWR | flags, 0o666))
        self.path, self.committed, self.length, self._error = Path(path), 0, 0, None

    def writable(self):
        return True

    def check(self):
        """Raise the OSError of the first write that failed, if one did."""
        if self._error is not None:
            raise OSError(self._error.errno, self._error.strerror, str(self.path)) from self._error

    def write(self, data):
        view = memoryview(data).cast("B")
        n = len(view)
        held = max(0, min(n, self.committed - self.at))
        if held:
            self.over.put(self.at, view[:held])
        try:
            self._write_at(self.at + held, view[held:])
        except OSError as error:
            self._error = self._error or error
            self.over.put(self.at + held, view[held:])
        self.at += n
        self.length = max(self.length, self.at)
        return n

    def truncate(self, size=None):
        self.length = self.at if size is None else size
        self.over.cut(self.length)
        return self.length

    def __exit__(self, kind, *rest):
        try:
            if kind is None:
                self.check()
                os.ftruncate(self.fd, self.length)    # HDF5 may end with space it has not written to
        finally:
            self.close()

    def _write_at(self, offset, view):
        while len(view):
            n = os.pwrite(self.fd, view, offset)
            view, offset = view[n:], offset + n


class JournaledFile(StreamedFile):
    """A file whose changes take effect at `commit`, all or none.

    Parameters
    ----------
    path : Path
    new : bool
        Begin an empty file; otherwise take up the last committed state.
    lock : WriteLock, optional
        The lock on `path`, when whoever opens the file holds it already.

    Raises
    ------
    InputError
        When it is being written by someone else.
    """

    def __init__(self, path, new, lock=None):
        self._own_lock = WriteLock(path) if lock is None else None
        try:
            super().__init__(path, os.O_CREAT if new else 0)
        except BaseException:
            self._release()
            raise
        if new:
            journal_of(path).unlink(missing_ok=True)
            os.ftruncate(self.fd, 0)
        self.committed = os.fstat(self.fd).st_size
        journal = None if new else read_journal(path)
        if journal is not None and journal[0] <= self.committed:
            self._apply(*journal)
        self.length = self.committed

    def commit(self):
        """Make everything written so far permanent; OSError where the disk has no room for it."""
        self.check()
        if os.fstat(self.fd).st_size < self.length:    # HDF5 may end with space it has not written to
            os.ftruncate(self.fd, self.length)
        os.fdatasync(self.fd) if hasattr(os, "fdatasync") else os.fsync(self.fd)
        pieces = list(self.over)
        body = b"".join(
            [MAGIC, HEAD.pack(self.length, len(pieces)), *(PIECE.pack(o, len(d)) + d for o, d in pieces)]
        )
        target = journal_of(self.path)
        new = target.with_name(target.name + ".new")
        try:
            with open(new, "wb") as f:
                f.write(body)
                f.write(struct.pack("<I", zlib.crc32(body)))
                f.flush()
                os.fsync(f.fileno())
        except OSError as error:
            new.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        os.replace(new, target)
        self._apply(self.length, pieces)

    def _apply(self, length, pieces):
        for offset, data in pieces:
            self._write_at(offset, memoryview(data))
        os.ftruncate(self.fd, length)
        self.over, self.committed = Overlay(), length

    def close_for_good(self, name=None):
        """Close the file after its last commit and give it its name; the journal goes, the file is complete."""
        try:
            if name is not None:
                rename_whole(self.fd, self.path, name)
            else:
                os.fsync(self.fd)
            journal_of(self.path).unlink(missing_ok=True)
        finally:
            self.close()

    def close(self):
        super().close()
        self._release()

    def _release(self):
        if self._own_lock is not None:
            self._own_lock.release()


def discard(path):
    """Remove a file and its journal."""
    path = Path(path)
    journal = journal_of(path)
    for name in (path, journal, journal.with_name(journal.name + ".new")):
        name.unlink(missing_ok=True)
