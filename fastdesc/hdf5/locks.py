"""One writer for each file: a lock beside it, held from the first look at the file to its last rename.

The lock is a file of its own (`<name>.lock`): a lock on the file itself would go with the file when that is renamed,
keep HDF5's readers away, or be dropped when the same process closes the file it has opened to read.
"""

import os
from contextlib import suppress
from pathlib import Path

from fastdesc.errors import InputError

try:
    import fcntl
except ImportError:    # no such locks on this system
    fcntl = None


class WriteLock:
    """A lock on a name, held until `release`; a context manager.

    It goes with the process that holds it, however that ends. Where a file system has no locks none is held.

    Parameters
    ----------
    path : Path
        The file that is written, there or not.

    Raises
    ------
    InputError
        When another process, or another writer in this one, holds it.
    """

    def __init__(self, path):
        path = Path(path)
        self.name, self._fd = path.with_name(path.name + ".lock"), None
        while fcntl is not None and self._fd is None:
            fd = os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.close(fd)
                raise InputError(
                    f"{path} is being written by another process; wait for it, or choose another name"
                ) from None
            except OSError:    # a file system without locks
                os.close(fd)
                self.name.unlink(missing_ok=True)
                return
            # Whoever held it before may have removed it after we opened it: then ours is a lock on nothing.
            if is_same(fd, self.name):
                self._fd = fd
            else:
                os.close(fd)

    def release(self):
        """Let others write."""
        if self._fd is not None:
            with suppress(OSError):
                self.name.unlink()    # while it is ours: nobody else's can be meant
            os.close(self._fd)
            self._fd = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.release()


def is_same(fd, path):
    """Whether an open file is the one that has the name `path`."""
    try:
        ours, there = os.fstat(fd), os.stat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def rename_whole(fd, path, name):
    """Give a file its name when it is on the disk.

    Parameters
    ----------
    fd : int
        The file, open.
    path, name : Path
        Its name now, and then.

    Raises
    ------
    InputError
        When another file has taken its place, as only where there are no locks.
    """
    os.fsync(fd)
    if not is_same(fd, path):
        raise InputError(f"another process wrote {name} at the same time; wait for it and begin again")
    os.replace(path, name)
    with suppress(OSError):    # not every file system lets a folder be opened
        folder = os.open(Path(name).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
