"""The differences of Windows that can be put into a program on Linux, see docs/platforms.md."""

import mmap
import multiprocessing.context
import os
import platform
import shutil
import signal
import sys
import warnings
from typing import Any

from . import refusals
from .views import OURS, PROBE, View, show

MISSING = ("fcntl", "grp", "posix", "pwd", "resource", "termios", "tty")
"""Modules that there are not."""
NO_OS = """
    chown confstr fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority
    getresuid getsid getuid initgroups killpg lchown major mkfifo mknod nice openpty pipe2 posix_fadvise
    posix_fallocate posix_spawn pread preadv pwrite register_at_fork sched_get_priority_max sched_getaffinity
    sched_getscheduler sched_setaffinity sched_yield sendfile setgid setpgid setpriority setsid setuid statvfs sync
    sysconf sysconf_names tcgetpgrp ttyname uname wait wait3 wait4 waitid
"""
"""Functions that `os` lacks."""
SIGNALS = {signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGINT, signal.SIGSEGV, signal.SIGTERM}


def _signal(number: int, handler: Any) -> Any:
    if number not in SIGNALS:
        raise ValueError("invalid signal value")
    return signal.signal(number, handler)


VIEWS = {
    "mmap": View(mmap, [name for name in dir(mmap) if name.startswith(("MADV_", "MAP_", "PROT_"))]),
    "os": View(os, NO_OS.split(), {"name": "nt"}),
    "platform": View(
        platform, other={"libc_ver": lambda *_: ("", ""), "system": lambda: "Windows", "machine": lambda: "AMD64"}
    ),
    "signal": View(
        signal,
        [
            *(s.name for s in signal.Signals if s not in SIGNALS),
            *("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigpending", "sigwait"),
        ],
        {"signal": _signal},
    ),
    "sys": View(sys, ["abiflags", "getdlopenflags", "setdlopenflags"], {"platform": "win32"}),
}


def install() -> None:
    """Put them in, until the process ends. PYTHONIOENCODING and PYTHONWARNDEFAULTENCODING have to be set outside."""
    show(VIEWS, MISSING)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    spawn = multiprocessing.context._concrete_contexts["spawn"]  # type: ignore[attr-defined]
    multiprocessing.context._concrete_contexts = {"spawn": spawn}  # type: ignore[attr-defined]
    multiprocessing.set_start_method("spawn")
    warnings.filterwarnings(
        "error", category=EncodingWarning, module=f"{OURS}|{PROBE}"
    )  # the default is cp1252, not UTF-8
    refusals.install(
        refusals.system_files,
        refusals.symbolic_links,
        refusals.open_folders,
        refusals.used_files,
        refusals.names,
        refusals.case_folded_names,
    )
