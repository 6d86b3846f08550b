"""A folder for compiled kernels that nobody else can write to: Numba loads them as pickles, which can run any code."""

import os
import stat
import tempfile
import warnings
from functools import cache
from pathlib import Path

try:
    import grp
    import pwd
except ImportError:    # no owners of this kind on this system
    grp = pwd = None

UNMAPPED = 65534
"""The owner that a user namespace shows for root outside of it."""


def cache_base():
    """Our folder of what is compiled at first use, in $FASTDESC_CACHE, $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("FASTDESC_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return private_folder(base)


@cache
def private_folder(base):
    """Return `base`/fastdesc, made if need be; where others own it or may write to it a private folder, and a warning.

    Raises
    ------
    OSError
        When neither can be made.
    """
    folder = Path(base).expanduser().absolute() / "fastdesc"
    why = _made(folder)
    if why is None:
        return folder
    other = Path(tempfile.gettempdir()).absolute() / f"fastdesc-{_user()}"
    if _made(other) is not None:
        other = Path(tempfile.mkdtemp(prefix="fastdesc-"))
    warnings.warn(
        f"the folder of compiled kernels {folder} is not used, because {why}; {other} is used. Give FASTDESC_CACHE a "
        "folder that is yours alone",
        stacklevel=2,
    )
    return other


def _made(folder):
    """Make a folder; return None, or why it cannot be trusted.

    The folders above it count, too: who may rename one of them can put another in its place.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = folder.resolve()
    for path in (folder, *folder.parents):
        why = weakness(path.stat(), own=path == folder)
        if why is not None:
            return f"{path} {why}"
    return None


def weakness(status, own):
    """Return why a folder is not safe from others, given its os.stat_result; None when it is.

    Parameters
    ----------
    own : bool
        It is to be our own; otherwise one above it, which may be root's, and be like /tmp, where everyone may make
        files and nobody may rename those of others.
    """
    if not hasattr(os, "geteuid"):
        return None
    trusted = {_user()} if own else {_user(), 0, UNMAPPED}
    if status.st_uid not in trusted:
        return f"belongs to another user ({_name(status.st_uid)})"
    writable = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not _ours_alone(status.st_gid))
    if writable and (own or not status.st_mode & stat.S_ISVTX):
        return f"may be written to by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _user():
    return os.geteuid() if hasattr(os, "geteuid") else "own"


def _name(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, AttributeError):
        return uid


def _ours_alone(gid):
    """Whether a group is the private one of this user, as many systems give every user."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except (KeyError, AttributeError):
        return False
    return gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
