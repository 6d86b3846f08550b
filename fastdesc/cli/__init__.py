"""The command line: words in, calls out, errors told in a sentence."""

import os
import sys
import warnings

from fastdesc.backend.process import keep_freed_memory, prefer_avx512
from fastdesc.cli.commands import COMMANDS
from fastdesc.cli.options import parser
from fastdesc.cli.sentences import TOLD, sentence, show_warning
from fastdesc.cli.signals import Interruption


def main(argv=None):
    """Run a command line; return its exit code: 0, 2 for an error told in one sentence, 130 after Ctrl-C,
    128 + number after another signal.

    Warnings of ours are told in one sentence, too.
    """
    _speak_anywhere()
    args = parser().parse_args(argv)
    prefer_avx512()
    keep_freed_memory()
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        return _main(args)


def _speak_anywhere():
    """Make the output one that takes Å and µ, whatever the terminal knows of them, also where it was closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")    # noqa: SIM115 - open until Python ends
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")


def _main(args):
    if args.command is None:
        parser().print_help()
        return 0
    with Interruption() as interruption:
        try:
            COMMANDS[args.command](args)
            sys.stdout.flush()
            return 0
        except BaseException as error:    # an interruption does not always come as KeyboardInterrupt
            ended = interruption.ended(error)
            if ended is None:
                return _failed(error, getattr(args, "debug", False))
    code, word = ended
    print(f"fastdesc: {word}", file=sys.stderr)
    return code


def _failed(error, debug):
    """Tell the error being handled in a sentence and return the exit code, or raise it again."""
    if isinstance(error, BrokenPipeError):
        # The reader of our output (head, less) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if debug or not isinstance(error, TOLD):
        raise error
    print(f"fastdesc: {sentence(error)}", file=sys.stderr)
    return 2
