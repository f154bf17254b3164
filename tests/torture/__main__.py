"""`python -m tests.torture`: all of the torture, within a time. See `make torture`.

TORTURE=10h makes it longer: the random kills take the time that is left.
"""

import os
import re
import shutil
import subprocess
import sys
import time

UNITS = {"s": 1, "min": 60, "h": 3600}


def seconds(text: str) -> float:
    """ "90s", "30min", "10h" -> seconds."""
    match = re.fullmatch(r"([\d.]+)(s|min|h)", text)
    if not match:
        sys.exit(f"TORTURE: must be a time such as 30min or 10h, got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def part(module: str, *options: str) -> int:
    """Run one part in a process of its own. Returns 1 if it found something."""
    command = [sys.executable, "-m", f"tests.torture.{module}", *options]
    return int(subprocess.run(command, check=False).returncode != 0)


def main() -> int:
    limit, began, seed = seconds(os.environ.get("TORTURE", "1h")), time.monotonic(), int(time.time())
    long = limit >= 3 * 3600
    failed = (
        part("stops") + part("stops", "phase=all", f"seed={seed}") + part("shells") + part("sharing") + part("growth")
    )
    failed += part("damage", f"n={1000 if long else 300}", f"seed={seed}")
    if shutil.which("strace"):
        failed += part("storage", f"n={1400 if long else 140}", f"seed={seed}")
        failed += part("kills", "what=calls", *(["n=40"] if not long else []))
    else:
        print("strace is not installed: kills and errors at system calls are left out (apt install strace)")
    if sys.platform == "linux" and os.geteuid() == 0:
        failed += part("disks")
    else:
        print("the part with real full and read-only disks mounts some, and needs Linux and root: left out")
    while time.monotonic() - began < limit:
        failed += part("kills", "what=random", "n=200", f"seed={seed}")
        seed += 1
    part("record")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
