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


def main() -> int:
    limit, began, failed = seconds(os.environ.get("TORTURE", "1h")), time.monotonic(), 0
    parts = [("calls", ["what=calls", *(["n=40"] if limit < 3 * 3600 else [])])] if shutil.which("strace") else []
    if not parts:
        print("strace is not installed: kills at system calls are left out (Debian, Ubuntu: apt install strace)")
    seed = int(time.time())
    for module, options in (("stops", []), ("sharing", []), ("growth", []), ("damage", ["n=300", f"seed={seed}"])):
        failed += subprocess.run([sys.executable, "-m", f"tests.torture.{module}", *options], check=False).returncode
    if parts:
        options = ["n=140" if limit < 3 * 3600 else "n=1400", f"seed={seed}"]
        failed += subprocess.run([sys.executable, "-m", "tests.torture.storage", *options], check=False).returncode
    for _, arguments in parts:
        failed += subprocess.run([sys.executable, "-m", "tests.torture.kills", *arguments], check=False).returncode
    while time.monotonic() - began < limit:
        command = [sys.executable, "-m", "tests.torture.kills", "what=random", "n=200", f"seed={seed}"]
        failed += subprocess.run(command, check=False).returncode
        seed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
