"""A team of GPUs in one machine: a process for each, sums by NCCL.

This process is member 0: it alone shows progress, writes and answers. It starts the others, learns when one ends, and
ends them with itself.
"""

import os
import signal
import threading
import warnings
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process

from fastdesc.backend.arrays import resolve_device
from fastdesc.backend.nccl import NcclSum, gpus
from fastdesc.errors import DeviceError, FastdescError, FastdescWarning, InputError
from fastdesc.training.team import Team

PATIENCE = 60.0
"""Seconds in which members that have nothing more to do must have ended."""
NOTICED = 5.0
"""Seconds in which a member that ends is noticed, on a busy machine, too."""
READY = "ready"


def team_size(devices, device):
    """How many devices train together.

    Parameters
    ----------
    devices : int or "all"
        "all" is one where NCCL is missing, with a warning if there are more.
    device : {"cpu", "cuda", "auto"}

    Raises
    ------
    InputError
        For more devices than there are, or several of the CPU.
    DeviceError
        For several where NCCL is missing.
    """
    if devices == 1:
        return 1
    if resolve_device(device) == "cpu":
        if devices == "all":
            return 1
        raise InputError(f"devices came as {devices} with device {device!r}; several must be GPUs, device 'cuda'")
    present, connected = gpus()
    install = "install NCCL with pip install 'fastdesc[nccl13]' (or nccl12)"
    if devices == "all":
        if present > 1 and not connected:
            warnings.warn(f"one of {present} GPUs is used; for all of them {install}", FastdescWarning, stacklevel=2)
        return present if connected else 1
    if devices > present:
        raise InputError(f"devices came as {devices}; this machine has {present}, give at most that or 'all'")
    if not connected:
        raise DeviceError(f"training on {devices} devices needs NCCL; {install}")
    return devices


@contextmanager
def gathered(size, work, arguments, meeting=NcclSum):
    """Context in which `size` members are at work; gives the Team of member 0.

    Parameters
    ----------
    work : callable
        ``work(team, *arguments)`` is what the other members run, each in a fresh process.
    arguments : tuple
        Anything that pickles.
    meeting : class
        With `key`, a constructor, a call and `abort` like NcclSum.

    Raises
    ------
    FastdescError
        When another member ends early; says why.
    """
    context, key = get_context("spawn"), meeting.key()
    members = [_Member(context, (rank, size, meeting, key, work, arguments)) for rank in range(1, size)]
    lost, done = [], threading.Event()
    watcher = None
    try:
        for member in members:
            member.wait_until_ready()
        add = meeting(0, size, key)
        watcher = threading.Thread(target=_watch, args=(members, lost, done, add.abort), daemon=True)
        watcher.start()
        yield Team(0, size, add)
        done.set()
        for member in members:
            member.process.join(PATIENCE)
    except Exception as error:
        if watcher is not None and not isinstance(error, FastdescError):
            watcher.join(NOTICED)    # what went wrong here may be that another is gone
        if lost:
            raise FastdescError(lost[0]) from error
        raise
    finally:
        done.set()
        for member in members:
            member.process.terminate()
            member.process.join()


class _Member:
    """The process of another member, as member 0 sees it."""

    def __init__(self, context, given):
        self.rank = given[0]
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_run_member, args=(theirs, *given), daemon=True)
        self.process.start()
        theirs.close()

    def wait_until_ready(self):
        if self._said() != READY:
            raise FastdescError(f"the process of device {self.rank} did not start: {self.last_words()}")

    def last_words(self):
        """Why the process ends or has ended; None after all went well."""
        said = self._said()
        if said is not None:
            return said
        self.process.join()
        return None if self.process.exitcode == 0 else f"code {self.process.exitcode}"

    def _said(self):
        """What came through the pipe; None where nothing will any more."""
        try:
            return self.pipe.recv()
        except EOFError:
            return None


def _watch(members, lost, done, abort):
    """Wait until a member ends early; note why, and end the waiting of member 0.

    Pipes are listened to, not processes: a member says why before its sums end, and may take long to end itself.
    """
    running = {member.pipe: member for member in members}
    while running and not done.is_set():
        for pipe in connection.wait(list(running), timeout=0.5):
            member = running.pop(pipe)
            words = member.last_words()
            if words is not None and not done.is_set():
                lost.append(f"the process of device {member.rank} ended early: {words}")
                abort()
                return


def _run_member(pipe, rank, size, meeting, key, work, arguments):
    """What a member's process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # Ctrl-C reaches all processes of a terminal; member 0 answers it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        pipe.send(READY)
        work(Team(rank, size, meeting(rank, size, key)), *arguments)
    except Exception as error:
        pipe.send(" ".join(str(error).split()) or type(error).__name__)
        raise SystemExit(1) from None


def _end_with_parent():
    """End this process when member 0 does, however it ends; it may be waiting in NCCL."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
