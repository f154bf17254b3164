"""The phases of a training run, and signals that arrive inside a certain one; `stops` judges what comes of them.

A phase is a function of the program, or what lies between two of them. It is wrapped in a forked child, and each
stretch of it that an undisturbed run has is measured. The signal is sent at a random instant of one of these.
"""

import functools
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ddpm_cli.hardware.compiling import missing_tool

from .cases import CASES, EVERY, FOLDER, SMALL, TINY, TRAIN, Case

UPDATE = "ddpm_cli.training.loop:update"
COMPLETE = "ddpm_cli.training.autoencoder:AutoencoderSession.complete"
RUN = "ddpm_cli.runs.directory:RunDirectory"
DRAW = "ddpm_cli.training.diffusion:DiffusionSession._generate"


class Phase(NamedTuple):
    """
    Args:
        inside: functions; each call is a stretch of the phase.
        first: only their first call is one.
        until: a function; the phase also lasts from the start of the command to its first call.
        after: a function; the phase also lasts from its end to the end of the command.
        late: in so many of the last stretches the run is as good as finished, and a signal need not stop it.
    """

    case: Case
    inside: tuple[str, ...] = ()
    first: bool = False
    until: str = ""
    after: str = ""
    late: int = 0


DIFFUSION = CASES["diffusion"]
PARTS = Case("parts", [*DIFFUSION.command, "trainer.micro_batch_size=1"])
# of more than one block, so that it is decoded by several processes
SCANNED = Case("scanned", [*TRAIN, *TINY, *FOLDER], result=".", pictures=300)
COMPILED = Case(
    "compiled",
    ["train", "run_dir=run", "trainer.steps=3", *SMALL, *EVERY[:2], "trainer.compile=true", "model=resnet",
     "model.channels=2", "model.multipliers=[1]", "model.blocks=1", "trainer.eval_every=0", "trainer.best_by=null"],
)  # fmt: skip
PHASES = {
    "startup": Phase(DIFFUSION, until=UPDATE),
    "scan": Phase(SCANNED, ("ddpm_cli.data.image_folder:ImageFolder.load",)),
    "compile": Phase(COMPILED, (UPDATE,), first=True),
    "step": Phase(DIFFUSION, (UPDATE,), late=1),
    "accumulation": Phase(PARTS, ("ddpm_cli.training.loop:gradients",), late=1),
    "save": Phase(DIFFUSION, (f"{RUN}.save",), late=1),
    "picture": Phase(DIFFUSION, (DRAW, f"{RUN}.picture"), late=2),
    "evaluation": Phase(DIFFUSION, ("ddpm_cli.training.loop:measured",), late=1),
    "end": Phase(CASES["autoencoder"], (COMPLETE,), after=COMPLETE, late=2),
}


def chosen(names: str) -> list[str]:
    """The phases that `phase=` names: all, or some of them as "step,save"."""
    if names != "all":
        return names.split(",")
    import torch

    tool = missing_tool(torch.device("cpu"))
    if tool is not None:
        print(f"the phase compile is left out: no {tool}")
    return [name for name in PHASES if name != "compile" or tool is None]


def import_compiler() -> None:
    """Import what compiling imports, so that no forked child does it again."""
    import_module("torch._inductor.compile_fx")


def fresh_cache(place: Path) -> None:
    """What is compiled in `place` is kept there: a run of it finds only what runs before it compiled there."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(place / ".inductor")


class Aim(NamedTuple):
    """`delay` seconds after the n-th stretch of a phase begins. group: to the process and all that it has started."""

    n: int
    delay: float
    number: int
    group: bool


def aim_at(stretches: list[float], number: int, group: bool, g: random.Random) -> Aim:
    """A random instant of a random stretch. stretches: the seconds of each in an undisturbed run."""
    n = g.randrange(len(stretches))
    return Aim(n + 1, g.uniform(0, stretches[n]), number, group)


class Watched(AbstractContextManager[None]):
    """A phase, inside a forked child: measures each stretch, or sends the signal.

    Args:
        log: gets the seconds of each stretch, or the instant at which the signal was sent, a line each.
    """

    def __init__(self, phase: Phase, log: Path, aim: Aim | None = None):
        self.phase, self.log, self.aim = phase, log, aim
        self.n, self.began = 0, 0.0
        self.timer: threading.Timer | None = None
        self.once = threading.Lock()

    def __enter__(self) -> None:
        sys.setswitchinterval(1e-4)  # so that the timer does not wait for Python's lock
        for path in self.phase.inside:
            _wrap(path, self._start, self._stop)
        if self.phase.after:
            _wrap(self.phase.after, _nothing, self._start)
        if self.phase.until:
            _wrap(self.phase.until, self._stop, _nothing)
            self._start()

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        if self.phase.first and self.n:
            return
        self.n, self.began = self.n + 1, time.monotonic()
        if self.aim is not None and self.aim.n == self.n:
            self.timer = threading.Timer(self.aim.delay, self._send)
            self.timer.start()

    def _stop(self) -> None:
        began, self.began = self.began, 0.0
        if began and self.aim is None:
            self._note(time.monotonic() - began)
        if began and self.timer is not None:
            self._send()  # if the phase was faster than before: at its last instant

    def _send(self) -> None:
        if self.aim is None or not self.once.acquire(blocking=False):
            return
        self._note(time.monotonic())
        (os.killpg if self.aim.group else os.kill)(os.getpid(), self.aim.number)

    def _note(self, value: float) -> None:
        with self.log.open("a") as file:
            file.write(f"{value}\n")


def noted(log: Path) -> list[float]:
    """What `Watched` wrote."""
    return [float(line) for line in log.read_text().splitlines()] if log.exists() else []


def _nothing() -> None: ...


def _wrap(path: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Let the function at "module:name" call `before` as it begins and `after` as it ends."""
    module, _, name = path.partition(":")
    *owners, name = name.split(".")
    owner: Any = functools.reduce(getattr, owners, import_module(module))
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        before()
        try:
            return original(*arguments, **options)
        finally:
            after()

    setattr(owner, name, wrapped)
