"""The differences of macOS that can be put into a program on Linux, see docs/platforms.md."""

import mmap
import multiprocessing
import os
import platform
import resource
import sys
from typing import Any

from . import refusals
from .views import View, show

NO_OS = """
    eventfd memfd_create pipe2 posix_fadvise posix_fallocate sched_getaffinity sched_getparam sched_getscheduler
    sched_setaffinity sched_setscheduler setns splice unshare
"""
"""Functions that `os` lacks."""
NO_MMAP = ["MADV_DONTFORK", "MADV_HUGEPAGE", "MADV_NOHUGEPAGE", "MADV_REMOVE", "MAP_POPULATE"]


class _Usage:
    """The peak memory in bytes; Linux gives it in KiB."""

    def __init__(self, usage: Any):
        self._usage = usage

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._usage, name)
        return value * 1024 if name == "ru_maxrss" else value


VIEWS = {
    "mmap": View(mmap, NO_MMAP),
    "os": View(os, NO_OS.split()),
    "platform": View(
        platform, other={"libc_ver": lambda *_: ("", ""), "system": lambda: "Darwin", "machine": lambda: "arm64"}
    ),
    "resource": View(resource, other={"getrusage": lambda who: _Usage(resource.getrusage(who))}),
    "sys": View(sys, other={"platform": "darwin"}),
}


def install() -> None:
    """Put them in, until the process ends."""
    show(VIEWS)
    multiprocessing.set_start_method("spawn")
    refusals.install(refusals.system_files, refusals.case_folded_names)
