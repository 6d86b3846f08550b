"""Memory of the host: how much is free, told before it runs out."""

from pathlib import Path

from fastdesc.errors import InputError

UNASKED = 1 << 28
"""Bytes that are taken without a look at what is free."""
GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""Limit and use of a container."""


def free(meminfo: Path = Path("/proc/meminfo"), groups: tuple[tuple[Path, Path], ...] = GROUPS) -> float:
    """Bytes that can be had without swapping, of the machine or of the container; infinite where these are not told."""
    least = float("inf")
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                least = 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    for limit, used in groups:
        try:
            least = min(least, float(limit.read_text()) - float(used.read_text()))
        except (OSError, ValueError):    # not there, or "max"
            continue
    return least


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Judge whether there is memory for something before it is taken.

    Parameters
    ----------
    needed : float
        Bytes.
    what, remedy : str
        Of the message: "{what} take about {needed}, and .. are free; {remedy}".

    Raises
    ------
    InputError
        When less is free.
    """
    if needed > UNASKED and needed > (left := free()):
        raise InputError(f"{what} take about {needed / 1e9:.1f} GB, and {max(left, 0) / 1e9:.1f} GB are free; {remedy}")
