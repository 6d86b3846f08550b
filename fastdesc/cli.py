"""The command line: words in, calls out, errors told in a sentence."""

import os
import signal
import sys
import warnings

from fastdesc.blas import prefer_avx512
from fastdesc.cli_commands import COMMANDS
from fastdesc.cli_options import parser
from fastdesc.errors import FastdescError, FastdescWarning


def main(argv=None):
    """Run a command line; return its exit code: 0, 2 for an error told in one sentence, 130 after Ctrl-C.

    Warnings of ours are told in one sentence, too.
    """
    args = parser().parse_args(argv)
    prefer_avx512()
    with warnings.catch_warnings():
        warnings.showwarning = _plainly
        return _main(args)


def _main(args):
    if args.command is None:
        parser().print_help()
        return 0
    # Termination unwinds like an exception, so that temporary files go.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:    # nohup ignores it
            signal.signal(number, _terminate)
    try:
        COMMANDS[args.command](args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastdesc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FastdescError, OSError) as error:
        if getattr(args, "debug", False):
            raise
        print(f"fastdesc: {_sentence(error)}", file=sys.stderr)
        return 2
    except MemoryError as error:
        if getattr(args, "debug", False):
            raise
        text = "there is not enough memory; use fewer structures at a time, a smaller cutoff or fewer features"
        print(f"fastdesc: {text} ({_sentence(error)})", file=sys.stderr)
        return 2
    return 0


def _plainly(message, category, filename, lineno, file=None, line=None):
    """Show a warning of ours as a sentence; what others warn of, with its place."""
    if issubclass(category, FastdescWarning):
        print(f"fastdesc: warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr, end="")


def _terminate(number, frame):
    raise SystemExit(128 + number)


def _sentence(error):
    if isinstance(error, OSError) and not isinstance(error, FastdescError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
