"""Errors a user can meet: each says what arrived, what is allowed and what to do next."""

from difflib import get_close_matches


class FastdescError(Exception):
    """Base of all errors that fastdesc raises on purpose."""


class InputError(FastdescError, ValueError):
    """An argument, a frame or a configuration is not usable."""


class FileFormatError(FastdescError, ValueError):
    """A file is truncated, foreign, empty or of a newer version."""


class DeviceError(FastdescError, RuntimeError):
    """The device asked for is not there or cannot do what was asked."""


class FastdescWarning(UserWarning):
    """Something that a user should look at; told once, at the end of a run."""


def nearest(name, allowed):
    """Return ' (did you mean X?)' for a misspelt name, or '' when nothing allowed comes close."""
    if not isinstance(name, str):
        return ""
    allowed = [a for a in allowed if isinstance(a, str)]
    match = [a for a in allowed if a.lower() == name.strip().lower()]
    match = match or get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""
