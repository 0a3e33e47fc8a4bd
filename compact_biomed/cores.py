"""How many processors there are for us."""

import os


def usable_cores() -> int:
    """The processors that this process may use; all, where the system does not tell."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
