"""Errors and warnings as the command line tells them: in a sentence each."""

import re
import sys
import warnings

from fastdesc.errors import FastdescError, FastdescWarning

LONG = re.compile(r"\S{400,}")
"""A word that is no word: a value of thousands of characters, which would hide the sentence about it."""
TOLD = FastdescError, OSError, MemoryError
"""Errors that are told in a sentence."""


def show_warning(message, category, filename, lineno, file=None, line=None):
    """Show a warning of ours as a sentence; what others warn of, with its place."""
    if issubclass(category, FastdescWarning):
        print(f"fastdesc: warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr, end="")


def sentence(error):
    """Return what an error of `TOLD` says, in a line."""
    if isinstance(error, OSError) and not isinstance(error, FastdescError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    text = LONG.sub(lambda word: f"{word[0][:120]}...{word[0][-60:]}", text)
    text = text.encode("utf-8", "backslashreplace").decode()    # names of files may hold bytes that are no text
    if not isinstance(error, MemoryError):
        return text
    instead = "use fewer structures at a time, a smaller cutoff or fewer features"
    return f"there is not enough memory; {instead} ({text})"
