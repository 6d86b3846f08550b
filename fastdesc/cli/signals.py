"""A command that is ended from outside: by Ctrl-C, by termination, by a terminal that goes away."""

import _thread
import os
import signal
import sys
import threading

ENDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated, its terminal was closed"}
AGAIN = 0.02
"""Seconds after which it is tried again to raise an exception that could not be raised, or was dropped."""
DELICATE = {"numba", "llvmlite", "h5py", "fastdesc.hdf5.journal"}
"""Packages below which nothing is raised, and the module that HDF5 calls back, also where it frees an object."""
PATIENCE = 60.0
"""Seconds after which the process ends however far unwinding got; files are such that it may at any moment."""


class Interruption:
    """Context in which signals that end a program unwind it like an exception, so that temporary files go.

    A signal raises KeyboardInterrupt in whatever Python the main thread is at, but not below a compiler or HDF5: what
    they call back cannot pass it on, and may leave a lock locked or worse. There it waits until they return. Other
    compiled code may drop it, and then it is raised again; or turn it into an error of its own, so ask `ended` what an
    exception really was. And there is an end to waiting.

    Attributes
    ----------
    number : int or None
        The signal that arrived.
    """

    def __init__(self):
        self.number, self._before, self._timers = None, {}, []

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        if threading.current_thread() is threading.main_thread():    # others must leave signals alone
            for name in ENDS:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:    # nohup ignores one
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *error):
        for timer in self._timers:
            timer.cancel()
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
        if self.number is None:
            self._later(PATIENCE, self._end_at_once)
        self.number = number
        if _packages(frame) & DELICATE:
            self._try_again()
        else:
            raise KeyboardInterrupt

    def _try_again(self):
        self._later(AGAIN, _thread.interrupt_main, self.number)

    def _end_at_once(self):
        code, word = self.ended(None)
        print(f"fastdesc: {word}, without waiting any longer for what hangs", file=sys.stderr, flush=True)
        os._exit(code)

    def _later(self, seconds, call, *given):
        timer = threading.Timer(seconds, call, given)
        timer.daemon = True
        timer.start()
        self._timers = [t for t in self._timers if t.is_alive()] + [timer]

    def _dropped(self, what):
        """Python's hook for exceptions that cannot be caught."""
        if self.number is None or not any(isinstance(e, KeyboardInterrupt) for e in _chain(what.exc_value)):
            self._hook(what)
            return
        self._try_again()


def _chain(error):
    """Yield an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def _packages(frame):
    """Names of the modules, and of their packages, whose functions are at work, from a frame down."""
    found = set()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        found |= {name, name.partition(".")[0]}
        frame = frame.f_back
    return found
