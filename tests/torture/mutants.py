"""The test of the tests: deliberate faults in what keeps runs safe, and the tests that must fail then.

`python -m tests.torture.mutants` prints a table. Each fault is made in a temporary copy of the tree, in which only the
named tests run, in a fork of a process that has already imported torch. Formulas have a list of their own:
`tests.diffusion.mutants`.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
PARTS = ("ddpm_cli", "conf", "tests", "pyproject.toml")
"""What a copy of the tree has."""


def mutated(fault: Fault) -> str:
    """The file with the fault. Raises ValueError unless `old` occurs exactly once: a stale one would test nothing."""
    text = (ROOT / "ddpm_cli" / fault.file).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: the text occurs {text.count(fault.old)} times in {fault.file}")
    return text.replace(fault.old, fault.new)


class Row(NamedTuple):
    """code: pytest's exit code. 0 = the tests passed, 1 = one failed; others: they did not run."""

    fault: Fault | None
    tests: tuple[str, ...]
    code: int
    seconds: float

    @property
    def right(self) -> bool:
        return self.code == (1 if self.fault else 0)

    def __str__(self) -> str:
        failed = {0: "no", 1: "yes"}.get(self.code, f"did not run ({self.code})")
        name = self.fault.name if self.fault else "(unchanged)"
        return f"| {name} | {' '.join(self.tests)} | {failed} | {self.seconds:.1f} |"


def rows(faults: Sequence[Fault], at_once: int = 2) -> list[Row]:
    """Run the tests of each fault, and once those of all without a fault."""
    _import_slow()
    jobs: list[tuple[Fault | None, tuple[str, ...]]] = [(None, t) for t in dict.fromkeys(f.tests for f in faults)]
    jobs += [(fault, fault.tests) for fault in faults]
    running: dict[int, tuple[Fault | None, tuple[str, ...], float, Path]] = {}
    found: list[Row] = []
    while jobs or running:
        while jobs and len(running) < at_once:
            fault, tests = jobs.pop(0)
            folder = Path(tempfile.mkdtemp(prefix="ddpm-fault-"))
            running[_fork(fault, tests, folder)] = (fault, tests, time.monotonic(), folder)
        pid, status = os.wait()
        fault, tests, began, folder = running.pop(pid)
        found.append(Row(fault, tests, os.waitstatus_to_exitcode(status), time.monotonic() - began))
        shutil.rmtree(folder, ignore_errors=True)
        if fault is not None or not found[-1].right:
            say(str(found[-1]))
    return found


def _import_slow() -> None:
    import hydra  # noqa: F401
    import pytest  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)


def _fork(fault: Fault | None, tests: Sequence[str], folder: Path) -> int:
    """Start a silent process that runs the tests in a copy of the tree. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        code = _child(fault, tests, folder / "tree", folder / "t")
    finally:
        os._exit(code)


def _child(fault: Fault | None, tests: Sequence[str], tree: Path, scratch: Path) -> int:
    import pytest

    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (tree / part).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tree / part)
    if fault is not None:
        (tree / "ddpm_cli" / fault.file).write_text(mutated(fault), encoding="utf-8")
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("ddpm_cli", "tests")]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", str(ROOT)))]
    arguments = [str(tree / "tests" / t) if ".py" in t else t for t in tests]
    quick = ["-x", "-q", "-n0", "--assert=plain", "-p", "no:cacheprovider", f"--rootdir={tree}"]
    return int(pytest.main([*quick, f"--basetemp={scratch}", *arguments]))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: Sequence[str]) -> int:
    say("| fault | test | fails | seconds |\n| --- | --- | --- | --- |")
    table = rows([f for f in FAULTS if not names or any(n in f.name for n in names)])
    wrong = [row for row in table if not row.right]
    faults = sum(row.fault is not None for row in table)
    say(f"\n{faults} faults, {sum(row.fault is not None for row in wrong)} not caught, {len(wrong)} rows are wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
