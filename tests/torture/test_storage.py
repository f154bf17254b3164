"""What the torture of storage reads in a log of strace, and what it calls wrong."""

from pathlib import Path

from .forked import Ended
from .storage import Fault, calls, said

LOG = """\
7 openat(AT_FDCWD</w/hit>, "run/.config.json.7.part", O_WRONLY|O_CREAT, 0666) = 5</w/hit/run/.config.json.7.part>
7 write(5</w/hit/run/.config.json.7.part>, "{\\"a\\": \\"/x\\"}", 12) = -1 ENOSPC (No space left on device) (INJECTED)
8 fsync(3</w/hit/run> <unfinished ...>
7 rename("run/.config.json.7.part", "run/config.json") = 0
8 <... fsync resumed>) = 0 (DELAYED)
7 unlinkat(4</w/hit/out>, "x.png", 0) = 0
7 +++ exited with 0 +++
"""


def test_the_calls_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    found = [(c.thread, c.name, str(c.path), c.hit, c.failed) for c in calls(log, Path("/w/hit"))]
    assert found == [
        ("7", "openat", "/w/hit/run/.config.json.7.part", False, False),
        ("7", "write", "/w/hit/run/.config.json.7.part", True, True),
        ("8", "fsync", "/w/hit/run", False, False),
        ("7", "rename", "/w/hit/run/config.json", False, False),
        ("7", "unlinkat", "/w/hit/out/x.png", False, False),
    ]


def test_what_is_wrong() -> None:
    fault, hit = Fault("write", 3, "ENOSPC", False), [Path("/w/run/.config.json.7.part")]

    def wrong(code: int, err: str) -> str:
        return said(Ended(code, "", err, 1.0), hit, fault)

    line = "ddpm: error: run/config.json: No space left on device; free some space"
    assert wrong(6, line) == wrong(0, "warning: run/config.json") == ""
    assert wrong(6, "").startswith("exit code 6, 0 lines") and wrong(6, f"{line}\n{line}").startswith("exit code 6, 2")
    assert wrong(1, line).startswith("exit code 1") and wrong(-7, "").startswith("exit code -7")
    assert wrong(6, "ddpm: error: file: No space left").startswith("names no file")
    assert wrong(6, f"Traceback\n{line}").startswith("Traceback")
