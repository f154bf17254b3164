"""A fork server: it imports the program once, and each case runs in a fork of its own, in a folder of its own.

So a case costs as little as the work that the program does in it. It must be started in a process that has not yet
used torch's threads: `python -m tests.torture.fuzz`, not inside pytest.
"""

import base64
import contextlib
import copy
import faulthandler
import gc
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
CONTRACT = {0, 2, 3, 4, 5, 6, 7, 8}
"""Exit codes of a command that no signal ends."""
SECONDS, MEMORY = 40.0, 12 * 2**30
"""The most that a case may take. Reaching the time is a hang."""


@dataclass(frozen=True)
class Case:
    """One command line, and what lies in its working directory.

    Args:
        arguments: with the command first.
        files: path -> text, or bytes as `base64:...`.
        runs: golden runs that lie there under their own names; each has the checkpoints of steps 3 and 4.
        edits: changes of files that are there, see `edits.apply`.
    """

    arguments: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    edits: tuple[tuple[Any, ...], ...] = ()

    def line(self) -> str:
        """The case as one line of a file."""
        return json.dumps({k: v for k, v in asdict(self).items() if v})

    @classmethod
    def of(cls, line: str) -> "Case":
        content = json.loads(line)
        edits = tuple(tuple(edit) for edit in content.get("edits", ()))
        return cls(tuple(content["arguments"]), content.get("files", {}), tuple(content.get("runs", ())), edits)


class Outcome(NamedTuple):
    """problem: None if the program kept its contract."""

    case: Case
    code: int
    seconds: float
    problem: str | None
    err: str


def text_of(raw: bytes) -> str:
    return f"base64:{base64.b64encode(raw).decode()}"


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode("utf-8", "surrogateescape")


class Server:
    """A context manager. `outcomes(cases)` runs them, some at a time, and yields what came of each as it ends."""

    def __init__(self, at_once: int = 2):
        self.at_once, self.started = at_once, 0

    def __enter__(self) -> "Server":
        self.folder = Path(tempfile.mkdtemp(prefix="ddpm-torture-"))
        _prepare_environment(self.folder)
        import_all()
        _keep_shipped_yaml()
        _make_runs(self.folder / "runs")
        gc.collect()
        gc.freeze()  # forks do not touch, and so not copy, what is there already
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def one(self, case: Case) -> Outcome:
        (outcome,) = self.outcomes([case])
        return outcome

    def outcomes(self, cases: Iterable[Case]) -> Iterator[Outcome]:
        running: dict[int, _Running] = {}
        waiting, more = iter(cases), True
        while more or running:
            while more and len(running) < self.at_once:
                case = next(waiting, None)
                if case is None:
                    more = False
                    break
                self.started += 1
                started = _Running(case, self.folder / f"case{self.started}", self.folder / "runs")
                running[started.pid] = started
            for pid in list(running):
                ended = running[pid].ended()
                if ended is not None:
                    del running[pid]
                    yield ended
            time.sleep(0.002)


class _Running:
    """A case in its fork."""

    def __init__(self, case: Case, folder: Path, runs: Path):
        self.case, self.folder, self.late = case, folder, False
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        _fill(self.work, case, runs)
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _child(case, folder, self.work)

    def ended(self) -> Outcome | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        seconds = time.monotonic() - self.began
        if pid == 0:
            if seconds > SECONDS and not self.late:
                self.late = True
                os.kill(self.pid, signal.SIGALRM)  # writes where it hangs
            elif seconds > SECONDS + 1:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            return None
        code = os.waitstatus_to_exitcode(status)
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        parts = [str(p.relative_to(self.work)) for p in self.work.rglob("*.part") if str(p) not in self.case.files]
        problem = "hangs" if self.late else verdict(self.case, code, out, err, parts)
        for path in self.work.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(self.folder, ignore_errors=True)
        return Outcome(self.case, code, seconds, problem, err)


def verdict(case: Case, code: int, out: str, err: str, parts: list[str]) -> str | None:
    """How the program broke its contract; None if it did not."""
    lines = [line for line in err.splitlines() if line.startswith("ddpm: error:")]
    if code not in CONTRACT:
        return f"exit code {code}: {_last(err)}"
    if "this is a bug" in err:
        return f"calls itself a bug: {_last(err)}"
    if any("debug" in argument for argument in case.arguments):
        return None  # the traceback was asked for
    if "Traceback" in err or "Traceback" in out or "Exception ignored" in err:
        return f"a traceback: {_last(err)}"
    sweep = any(a in ("-m", "--multirun", "hydra.mode=MULTIRUN") for a in case.arguments)
    if code and (not lines or (len(lines) > 1 and not sweep)):
        return f"{len(lines)} lines of error for exit code {code}: {_last(err)}"
    if not code and lines:
        return f"exit code 0 with an error: {lines[0]}"
    warned = [line for line in err.splitlines() if "Warning: " in line and "hydra" not in line]  # Hydra may advise
    if warned:
        return f"a warning of a library: {warned[0]}"
    return f"leaves {parts[0]}" if parts else None


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "(nothing on stderr)"


def _fill(work: Path, case: Case, runs: Path) -> None:
    from .edits import apply

    for name in case.runs:
        shutil.copytree(runs / name, work / name)
    for name, text in case.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes_of(text))
    for edit in case.edits:
        with contextlib.suppress(Exception):  # an edit before made it impossible
            apply(work, edit)


def _child(case: Case, folder: Path, work: Path) -> None:
    """Run the program as its entry point does, and end the process."""
    code = 70
    try:
        os.setsid()
        for number, name in ((1, "out"), (2, "err")):
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(work)
        os.environ["HOME"] = os.environ["TRACKIO_DIR"] = str(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.register(signal.SIGALRM)
        _limit()
        from ddpm_cli.cli import main

        sys.argv = ["ddpm", *case.arguments]
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _limit() -> None:
    """Whatever a line asks for, a run ends after five steps or a second, and there is no network."""
    import socket

    from ddpm_cli.training import plan

    length, seconds_of = plan.Plan.length, plan.seconds_of
    plan.Plan.length = lambda self, images: min(length(self, images), 5)  # type: ignore[method-assign]
    plan.seconds_of = lambda budget: min(seconds_of(budget), 1.0)

    def refused(*_: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    socket.socket.connect = refused  # type: ignore[method-assign,assignment]


def _prepare_environment(folder: Path) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "XDG_CACHE_HOME": str(folder / "cache")}
    os.environ |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    os.environ.pop("PYTHONPATH", None)


def import_all() -> None:
    """All that a command imports or derives from the source of the program, so that no fork does it again."""
    import torch
    import torch._dynamo  # the first optimizer imports it
    from sklearn.datasets import load_digits

    import ddpm_cli
    from ddpm_cli.early import _definitions

    torch.set_num_threads(1)
    load_digits()
    for module in pkgutil.walk_packages(ddpm_cli.__path__, "ddpm_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
        _definitions(module.name)


def _keep_shipped_yaml() -> None:
    """Parse the files of conf/ once; files of other content are parsed as always."""
    import yaml
    from omegaconf._utils import get_yaml_loader

    original: Any = yaml.load
    paths = (ROOT / "conf").rglob("*.yaml")
    known = {text: original(text, get_yaml_loader()) for text in (p.read_text(encoding="utf-8") for p in paths)}

    def load(stream: Any, *arguments: Any, **options: Any) -> Any:
        if hasattr(stream, "seek"):
            at, text = stream.tell(), stream.read()
            if text in known:
                return copy.deepcopy(known[text])
            stream.seek(at)
        return original(stream, *arguments, **options)

    yaml.load = load


def _make_runs(folder: Path) -> None:
    """The golden runs, each with an older checkpoint beside its own."""
    from ddpm_cli.runs import checkpoint

    for source in sorted(p.parent for p in GOLDEN.glob("*/run")):
        run = shutil.copytree(source / "run", folder / source.name)
        last = checkpoint.load(next((run / "checkpoints").glob("*.json")))
        content = {k: v for k, v in last.manifest.items() if k not in ("format", "digest", "step")}
        for step in (last.step - 1, last.step):  # the golden ones may have an older format
            checkpoint.save(run / "checkpoints", step, last.tensors(), content)
