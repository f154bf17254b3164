"""ddpm bench what=startup: how long commands take from the shell, each in its own process and an empty folder."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..build import check_positive
from ..errors import DdpmError
from ..progress import Progress
from ..runs.job import Job
from ..text import NameText, PathText
from .machine import machine
from .measurements import Measurement, Report

HELP, MISTAKE, STEP = 0.5, 1.5, 8.0
"""Goals in seconds: for help and completion, for a config error, and for a training step on digits."""


class StartupCase(NamedTuple):
    """A command line, its expected exit code, and, for tab completion, the typed line."""

    name: str
    what: str
    goal: float
    arguments: list[str]
    code: int = 0
    typed: str | None = None


QUERY = ["-sc", "query=bash"]
ONE_STEP = ["train", "dataset=digits", "trainer.steps=1", "trainer.eval_every=0", "trainer.sample_every=0"]
CASES = [
    StartupCase("help", "ddpm --help", HELP, ["--help"]),
    StartupCase("version", "ddpm --version", HELP, ["--version"]),
    StartupCase("complete_command", "tab after ddpm tr", HELP, QUERY, typed="ddpm tr"),
    StartupCase("complete_group", "tab after ddpm train dataset=ci", HELP, QUERY, typed="ddpm train dataset=ci"),
    StartupCase("complete_key", "tab after ddpm train optimizer.l", HELP, QUERY, typed="ddpm train optimizer.l"),
    StartupCase("unknown_group", "ddpm train datset=digits", MISTAKE, ["train", "datset=digits"], 2),
    StartupCase("unknown_key", "ddpm train model.chanels=3", MISTAKE, ["train", "model.chanels=3"], 2),
    StartupCase("wrong_type", "ddpm train trainer.steps=many", MISTAKE, ["train", "trainer.steps=many"], 2),
    StartupCase("first_step", "one step on digits, saved", STEP, ONE_STEP),
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """See conf/what/startup.yaml. Raises ConfigError for a number out of range."""

    windows: int
    seed: int = 0
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_positive(windows=self.windows)


class Benchmark:
    """Runs all commands `windows` times in turn, after one run that fills the disk cache."""

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job

    def __call__(self, progress: Progress) -> Report:
        """Raises DdpmError when a command exits with another code than expected."""
        windows = self.options.windows
        times: dict[str, list[ProcessTimes]] = {case.name: [] for case in CASES}
        time_process(CASES[-1])
        for i in range(windows):
            for case in CASES:
                times[case.name].append(time_process(case))
            progress("starting commands", i + 1, windows)
        measurements = [Measurement(c.name, c.what, "s", [t.seconds for t in times[c.name]], c.goal) for c in CASES]
        # processor time: on a busy machine, the elapsed time also includes waiting for a core
        processor = {name: [round(t.processor, 3) for t in runs] for name, runs in times.items()}
        protocol = {"windows": windows, "processor_seconds": processor}
        title = "from starting the command to the end of its process"
        return Report("startup", title, measurements, protocol, machine(), self.job.config)


class ProcessTimes(NamedTuple):
    """Elapsed seconds from start to end of a process, and the processor seconds of its threads (0 if unknown)."""

    seconds: float
    processor: float


def time_process(case: StartupCase) -> ProcessTimes:
    """Run a command once. Raises DdpmError when it exits with another code than expected."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    if case.typed is not None:
        environment |= {"COMP_LINE": case.typed, "COMP_POINT": str(len(case.typed))}
    command = [sys.executable, "-m", "ddpm_cli", *case.arguments]
    text: dict[str, Any] = {"text": True, "encoding": "locale", "errors": "replace", "capture_output": True}
    with tempfile.TemporaryDirectory() as folder:
        began, before = time.perf_counter(), os.times()
        result = subprocess.run(command, cwd=folder, env=environment, check=False, **text)  # noqa: S603 (this program itself)
        seconds, after = time.perf_counter() - began, os.times()
    if result.returncode != case.code:
        last_line = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise DdpmError(
            f"{case.what}: exit code {result.returncode} instead of {case.code} ({last_line}); run it alone to see why"
        )
    computed = after.children_user + after.children_system - before.children_user - before.children_system
    return ProcessTimes(seconds, computed)
