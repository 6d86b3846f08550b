"""Says what happens while kernels are compiled: that takes seconds to a minute, once for each version.

Every kernel is told to the logger `fastdesc` at level INFO, with its time; the first one of a process also to the
terminal, where there is one, since nothing else moves meanwhile.
"""

import logging
import sys
import time

from numba.core import event

NOTICE = "fastdesc: compiling for this processor; this is done once, `fastdesc warmup` does it beforehand"
logger = logging.getLogger("fastdesc")


class Compilation(event.Listener):
    """Hears when Numba compiles one of our kernels.

    Attributes
    ----------
    kernels : list of (str, float)
        Names of the kernels compiled in this process, and seconds.
    """

    def __init__(self):
        self.kernels, self._began, self._told = [], [], False

    def on_start(self, event):
        self._began.append(time.perf_counter())
        if len(self._began) == 1 and not self._told and _is_ours(event):
            self._told = True
            if _seen():
                print(NOTICE, file=sys.stderr, flush=True)

    def on_end(self, event):
        seconds = time.perf_counter() - self._began.pop()
        if not self._began and _is_ours(event):    # what a kernel calls is part of it
            name = event.data["dispatcher"].py_func.__name__
            self.kernels.append((name, seconds))
            logger.info("compiled %s in %.1f s", name, seconds)


def _is_ours(event):
    return (event.data["dispatcher"].py_func.__module__ or "").startswith("fastdesc.")


def _seen():
    """Whether somebody reads what goes to the standard error: a terminal, or a notebook."""
    return "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())


compilation = Compilation()
event.register("numba:compile", compilation)
