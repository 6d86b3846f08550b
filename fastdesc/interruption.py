"""A command that is ended from outside: by Ctrl-C, by termination, by a terminal that goes away."""

import _thread
import signal
import sys
import threading

ENDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated, its terminal was closed"}
AGAIN = 0.02
"""Seconds after which an exception that was swallowed is raised again."""


class Interruption:
    """Context in which signals that end a program unwind it like an exception, so that temporary files go.

    A signal raises KeyboardInterrupt in whatever Python the main thread is at. That may be a function that compiled
    code calls back, which cannot pass the exception on: a compiler's callback drops it, and it is raised again a
    moment later; other code turns it into an error of its own, so ask `ended` what an exception really was.

    Attributes
    ----------
    number : int or None
        The signal that arrived.
    """

    def __init__(self):
        self.number, self._before, self._again = None, {}, None

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        if threading.current_thread() is threading.main_thread():    # others must leave signals alone
            for name in ENDS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:    # nohup ignores one
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *error):
        if self._again is not None:
            self._again.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._hook

    def ended(self, error):
        """Exit code and a word for it when `error` comes of a signal; None of any other error."""
        if self.number is None and not isinstance(error, KeyboardInterrupt):
            return None
        number = signal.Signals(self.number or signal.SIGINT)
        return 128 + number, ENDS[number.name]

    def _arrived(self, number, frame):
        self.number = number
        raise KeyboardInterrupt

    def _dropped(self, what):
        """Python's hook for exceptions that nobody can catch."""
        if self.number is None or not any(isinstance(e, KeyboardInterrupt) for e in _chain(what.exc_value)):
            self._hook(what)
            return
        self._again = threading.Timer(AGAIN, _thread.interrupt_main, [self.number])
        self._again.daemon = True
        self._again.start()


def _chain(error):
    """Yield an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__
