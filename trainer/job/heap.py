"""CPU tuning: the heap of a process that trains or generates images keeps the memory that it has freed.

Each optimizer step and each sampling step frees the tensors that the next one asks for again. glibc hands large ones
back to the kernel, which has to clear every page anew: on two CPU cores a fifth of the time in which the demo's model
draws its images.
"""

import os
from collections.abc import Mapping

TUNABLES = "GLIBC_TUNABLES"
"""The environment variable that glibc (2.26 and newer) reads when a process starts; others do not know it."""

GLIBC_SETTINGS: Mapping[str, int] = {
    "glibc.malloc.mmap_threshold": 1 << 40,
    "glibc.malloc.trim_threshold": 1 << 40,
    "glibc.malloc.arena_max": 1,  # the arenas of threads would unmap what they do not need, whatever the thresholds
    "glibc.malloc.hugetlb": 1,  # ask for huge pages, where the kernel leaves it to programs (glibc 2.35 and newer)
}
"""Settings of glibc; sizes in bytes."""


def heap_environment() -> dict[str, str]:
    """Environment variables to start a process with that keeps freed memory.

    Settings of the user's own for glibc come last and so win.
    """
    ours = ":".join(f"{name}={value}" for name, value in GLIBC_SETTINGS.items())
    theirs = os.environ.get(TUNABLES, "")
    return {TUNABLES: f"{ours}:{theirs}" if theirs else ours}
