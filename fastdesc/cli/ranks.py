"""A command that mpiexec started on several ranks: one of them prints, and none waits for one that has ended."""

import os
import sys
import time
import traceback
import warnings
from contextlib import contextmanager

from fastdesc.backend.mpi import RANKS, share_node, told, world
from fastdesc.cli.sentences import TOLD, sentence
from fastdesc.training.team import ALONE
from fastdesc.training.team_ranks import TeamOfRanks

PATIENCE = 1.0
"""Seconds in which rank 0 tells what has befallen it too, before another rank does."""

FORWARDED = 0.5
"""Seconds in which mpiexec passes on what a rank has said; what is on its way when it ends the ranks is lost."""


@contextmanager
def ranks_together():
    """Context in which this process is one of those that mpiexec started; gives their team, or ALONE.

    An error that all ranks meet is told by rank 0, and all end. What one rank meets it tells itself, and then it ends
    the others, which may be waiting for it.
    """
    try:
        comm = world()
    except Exception:
        if told(RANKS):
            _fall_silent()
        raise
    if comm is None:
        yield ALONE
        return
    team = TeamOfRanks(comm, share_node(comm))
    if team.rank:
        warnings.showwarning = lambda *given: None    # rank 0 warns of the same
    try:
        yield team
        team.wait_for_all()
    except BaseException as error:
        if not (getattr(error, "of_all", False) or team.stopped):
            _end_all(team, error)
        if team.rank:
            _fall_silent()
        raise


def _end_all(team, error):
    if team.rank:
        time.sleep(PATIENCE)
    if isinstance(error, TOLD):
        print(f"fastdesc: rank {team.rank} of {team.size}: {sentence(error)}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("fastdesc: interrupted", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(FORWARDED)
    code = 130 if isinstance(error, KeyboardInterrupt) else 2
    team.comm.Abort(code)
    os._exit(code)    # where an Abort comes back


def _fall_silent():
    """What is still to be said here rank 0 says."""
    sys.stderr.flush()
    sys.stderr = open(os.devnull, "w", encoding="utf-8")    # noqa: SIM115 - open until Python ends
