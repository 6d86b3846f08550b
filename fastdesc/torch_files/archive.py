"""The zip archive of a file of PyTorch: one folder, whose pickle and tensors are stored as they are.

Nothing is taken on trust. What is read is not compressed in such files (program text may be, and is not read), so a
small file cannot become a large one; members together are no larger than the file, so none is counted twice; a name
that leads out of the folder is refused, though nothing is ever written to disk.
"""

import struct
import zipfile

from fastdesc.errors import FileFormatError

MOST_MEMBERS = 100_000
DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, KeyError, EOFError, struct.error, OSError)
"""What zipfile raises for archives that are not in order."""


class Archive:
    """An open archive, judged; a context manager.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FileFormatError
        For what is no archive of PyTorch.
    """

    def __init__(self, path):
        self.path, self.size = path, path.stat().st_size
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise FileFormatError(
                f"{path} is no zip archive, or a truncated one; give a .pt or .pth file of PyTorch 1.6 or newer, whole"
            ) from error
        try:
            self._members = self._judged()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()

    def _judged(self):
        """Member by its name below the one folder."""
        members, total, roots = {}, 0, set()
        infos = self._zip.infolist()
        if len(infos) > MOST_MEMBERS:
            self._refuse(f"holds {len(infos)} members, and {MOST_MEMBERS} are allowed")
        for info in infos:
            root, _, name = info.filename.partition("/")
            parts = name.split("/")
            if {"", ".", ".."} & {root, *parts} or {"\\", ":"} & set(info.filename):
                self._refuse(f"has a member {info.filename[:60]!r}, which does not lie in one folder")
            if name in members:
                self._refuse(f"has two members {info.filename[:60]!r}")
            members[name] = info
            roots.add(root)
            total += info.compress_size
        if total > self.size:
            self._refuse(f"claims members of {total} bytes in a file of {self.size}")
        if len(roots) > 1 or "data.pkl" not in members:
            self._refuse("is a zip archive, but not one of PyTorch, which has one folder with data.pkl in it")
        return members

    def _refuse(self, what):
        raise FileFormatError(f"{self.path} {what}; get the file anew from where it came")

    def size_of(self, name):
        """Bytes of a member; FileFormatError where there is none, or one that is not stored as it is."""
        if name not in self._members:
            self._refuse(f"has no member {name!r}, which its pickle speaks of")
        info = self._members[name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            self._refuse(f"has its member {name!r} compressed or encrypted, which PyTorch never does")
        return info.file_size

    def has(self, name):
        """Whether there is a member."""
        return name in self._members

    def read(self, name):
        """Bytes of a member."""
        size = self.size_of(name)
        try:
            data = self._zip.read(self._members[name])
        except DAMAGE as error:
            raise FileFormatError(f"{self.path} is damaged at its member {name!r}; get the file anew") from error
        if len(data) != size:
            self._refuse(f"is cut short at its member {name!r}")
        return data
