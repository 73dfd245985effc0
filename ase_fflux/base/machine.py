"""What the machine has to offer: cores, threads, memory."""

import math
import os

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables by which the environment sets the threads of linear algebra, read when it is loaded."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_here(most: int) -> int:
    """Threads of linear algebra in this process, which its environment may limit."""
    limits = [os.environ.get(name, "") for name in THREADS]
    return min([most, *(int(limit) for limit in limits if limit.isdigit() and int(limit))])


def memory_available() -> float:
    """Bytes; not SC_AVPHYS_PAGES, which does not count what the page cache would give back."""
    try:
        with open("/proc/meminfo") as file:
            kilobytes = dict(line.split()[:2] for line in file)["MemAvailable:"]
        return 1024.0 * int(kilobytes)
    except OSError:  # macOS tells only what there is in all, Windows not even that
        if not hasattr(os, "sysconf"):
            return math.inf
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
