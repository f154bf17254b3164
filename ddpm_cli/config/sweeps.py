"""Sweeps: which folder each run gets, and how it is run."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode

from .. import console, signals
from ..errors import ConfigError
from ..files import override, shown
from ..progress import silent
from ..runs.newest import followed
from ..text import home, quoted, unquoted

LONGEST = 100
"""Characters of a folder's name."""
SAFE = re.compile(r"[^\w.=+@-]+")
"""What may not be in a folder's name: it would have to be quoted, or means something in a path."""
OF_SWEEP = re.compile(r"[+~]*hydra[./](mode|sweep|sweeper|launcher)\b")
REASON = "DDPM_CLI_REASON"
"""Environment variable of a run of a sweep: the file for the line that says why it failed."""


def folder_key(name: str) -> str:
    """The key that names the folder of a command."""
    return "run_dir" if name == "train" else "out"


def folder_of(path: str) -> Path:
    """The folder that `path` names; for the name of a .gif or .mp4 file, its parent."""
    named = Path(home(path))
    return followed(named.parent if named.suffix in (".gif", ".mp4") else named)


class Done(NamedTuple):
    """What became of a run. value: of the metric that a sweeper asks for."""

    code: int
    folder: str
    reason: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep of one command; a context in which its runs say what became of them.

    Args:
        swept: the keys and groups that have several values.
        said: those of them that the folder's own name says, as in run_dir='runs/${seed}'.
        named: whether the user named a folder.
        root: the folder for the whole sweep, if the user named one.
        flags: of Hydra, for each run.
        results: a folder for what became of each run, as runs may have processes of their own.
    """

    command: str
    swept: frozenset[str]
    said: frozenset[str]
    named: bool
    root: Path | None
    flags: tuple[str, ...]
    results: Path

    @classmethod
    @contextmanager
    def of(cls, command: str, arguments: Sequence[str], config_dir: str | None) -> Iterator["Sweep"]:
        swept: set[str] = set()
        text, several = "", False
        parser = OverridesParser.create()
        for argument in arguments:
            with suppress(HydraException):  # a flag, or one that Hydra will refuse
                override = parser.parse_override(argument)
                sweeps = override.is_sweep_override()
                if override.key_or_group == folder_key(command):
                    text, several = unquoted(override.get_value_string() or ""), sweeps
                elif sweeps:
                    swept.add(override.key_or_group)
        names = re.findall(r"\$\{([\w.]+)\}", text)
        said = swept if "${hydra" in text else {key for key in swept if key in names}
        start = re.split(r"[^/\\]*\$\{", text)[0]
        root = None if several or not start else folder_of(start)
        flags = ("--config-dir", config_dir) if config_dir else ()
        with tempfile.TemporaryDirectory(prefix="ddpm-sweep-") as results:
            yield cls(command, frozenset(swept), frozenset(said), bool(text), root, flags, Path(results))

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """As Hydra must see them."""
        own = any(a.lstrip("+").startswith("hydra.sweep.dir=") for a in arguments)
        place = [] if own or self.root is None else [f"hydra.sweep.dir={quoted(str(self.root))}"]
        return [*arguments, *place]

    def folder(self, config: Mapping[str, Any]) -> tuple[Path, str]:
        """The folder that the config names, and the name below it that tells the run from others; "" if it needs none.

        Raises:
            ConfigError: Hydra has no folder for the sweep.
        """
        key = folder_key(self.command)
        own = self.named and (self.root is None or bool(self.said))
        parent = folder_of(str(config.get(key) or "")) if own else Path(HydraConfig.get().sweep.dir)
        chosen = [text for text in HydraConfig.get().overrides.task if _key(text) != key]
        unsaid = [text for text in chosen if _key(text) in self.swept - self.said]
        if not self.swept and not own:  # one run only: by all that it was asked for
            unsaid = chosen
        return parent, name_of(unsaid) if unsaid else "" if own else "run"

    def place(self, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The key that names the folder, or the file in it, of a run that is no training. folder: Hydra's for it."""
        if "out" not in config or not (self.named or self._own_folder):
            return {"out": shown(folder)} if "out" in config and config["out"] is not None else {}
        if self._own_folder:
            return {"out": shown(folder)}
        parent, name = self.folder(config)
        path = Path(str(config["out"]))
        return {"out": shown(parent / name / path.name if path.suffix in (".gif", ".mp4") else parent / name)}

    @property
    def _own_folder(self) -> bool:
        """Whether the user tells Hydra itself how to name the folders."""
        return any(text.lstrip("+").startswith("hydra.sweep.subdir=") for text in HydraConfig.get().overrides.hydra)

    def train(self, config: Mapping[str, Any]) -> Done:
        """Run a training as a command of its own: a crash, or a lack of memory, must not end the other runs."""
        from ..runs.asked import Asked, find, is_finished

        if config.get("sweep_metric") is None and not HydraConfig.get().sweeper["_target_"].endswith("BasicSweeper"):
            raise ConfigError("sweep_metric: is not set; this sweeper needs a logged metric, such as val_loss or loss")
        given, asked = HydraConfig.get().overrides, Asked(config, self.swept)
        parent, name = self.folder(config)
        if self._own_folder:
            parent, name = Path(HydraConfig.get().runtime.output_dir), ""
        folder = find(parent, name, asked) if name else parent
        if is_finished(folder, asked):
            console.say(f"{shown(folder)}: already finished")
            return Done(0, str(folder), value=_metric(folder, config))
        asked.write(folder)
        overrides = [text for text in given.task if _key(text) != "run_dir"]
        overrides += [text for text in given.hydra if not OF_SWEEP.match(text)]
        place = f"run_dir={shown(parent)}" if name else ""
        code, reason = _program(["train", *self.flags, *overrides, f"run_dir={quoted(str(folder))}"], place)
        asked._replace(code=code, reason=reason).write(folder)
        return Done(code, str(folder), reason, _metric(folder, config))

    def label(self) -> str:
        """What tells the current run from the others, as it was typed."""
        overrides = HydraConfig.get().overrides.task
        return " ".join(text for text in overrides if _key(text) in self.swept) or " ".join(overrides)

    def _compare(self, root: Path, folders: Sequence[str]) -> None:
        """Show all runs of the sweep, those of earlier commands too, and keep the table in its folder."""
        from ..commands.runs import show
        from ..evaluation.board import write_board
        from ..evaluation.listing import chosen, find

        shared = root.is_dir() and not (self.named and self.root is None)
        runs = chosen(find([str(root)] if shared else folders), [], None)
        show([replace(run, reason="") for run in runs])
        if shared:
            try:
                notes = write_board(root, runs, "run_dir", 0, (), silent)
            except (ConfigError, OSError) as error:  # the runs themselves are done
                notes = [str(error)]
            for note in notes:
                console.note(note)
            console.note(f"list them again with ddpm runs {override('of', shown(root)).removeprefix('of=')}")

    def note(self, number: int, code: int, label: str, reason: str, folder: str) -> None:
        """Keep what became of run `number`, for `end`."""
        file = self.results / f"{number:06d}"
        root = str(HydraConfig.get().sweep.dir)
        found = {"code": code, "label": label, "reason": reason, "folder": folder, "dir": root}
        file.write_text(json.dumps(found), encoding="utf-8")

    def end(self) -> int:
        """Say which runs failed, and why. Returns the first exit code that is not 0.

        Raises:
            ConfigError: there were no runs.
        """
        done = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.results.iterdir())]
        if not done:
            raise ConfigError("command line: the sweep has no runs; check the values between the commas")
        if self.named and self.root is None:  # the runs lie elsewhere
            for folder in {Path(run["dir"]) for run in done}:
                _remove_record(folder)
        failed = [run for run in done if run["code"]]
        if failed and len(done) > 1:
            console.note(f"{len(failed)} of {len(done)} runs failed:")
            for run in failed:
                console.note(f"  {run['label']}: {run['reason']}")
        if self.command == "train" and len(done) > 1:
            self._compare(Path(done[0]["dir"]), [run["folder"] for run in done if run["folder"]])
        return next((int(run["code"]) for run in failed), 0)


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def name_of(overrides: Sequence[str]) -> str:
    """A folder's name for overrides: ["seed=1", "schedule=cosine"] -> "seed=1_schedule=cosine".

    With a digest at its end if characters had to be left out.
    """
    texts = [f"{key.lstrip('+')}={unquoted(value)}" for key, _, value in (text.partition("=") for text in overrides)]
    whole = "_".join(texts)
    name = SAFE.sub("-", whole).strip("-. ")
    if name == whole and len(name.encode()) <= LONGEST:
        return name
    while len(name.encode()) > LONGEST:
        name = name[:-1]
    return f"{name}-{hashlib.sha256('_'.join(overrides).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def in_sweep() -> bool:
    """Whether Hydra runs the current job as one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _remove_record(folder: Path) -> None:
    """Remove the file that Hydra writes for a sweep, if nothing else is in its folder, and the parents that it made."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
            (folder / "multirun.yaml").unlink()
            for parent in (folder, *folder.parents):
                parent.rmdir()  # raises if there is something else in it


def _metric(folder: Path, config: Mapping[str, Any]) -> float | None:
    """The last value of `sweep_metric` that a run has logged, NaN for a run without; None if no sweeper asks for it."""
    from ..runs.logs import last_value

    name = config.get("sweep_metric")
    return None if name is None else last_value(folder, str(name), math.nan)


def _program(arguments: Sequence[str], place: str) -> tuple[int, str]:
    """Run the program. Returns its exit code, and the line that says why it failed."""
    root = str(Path(__file__).parents[2])
    program = f"import sys; sys.path.append({root!r}); from ddpm_cli.cli import main; main()"
    with tempfile.TemporaryDirectory(prefix="ddpm-sweep-") as temporary:
        file = Path(temporary) / "reason"
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-c", program, *arguments], env=os.environ | {signals.JOB: place, REASON: str(file)}
        )
        with signals.handled(signals.SAVE, lambda number, _: process.send_signal(number)):
            try:
                code = process.wait()
            except KeyboardInterrupt as error:
                number = getattr(error, "number", 2)
                if os.name == "posix":  # a terminal has sent it there too, and twice within a moment is once
                    process.send_signal(number)
                process.wait()
                raise SystemExit(128 + number) from error
        reason = file.read_text(encoding="utf-8") if file.is_file() else ""
    if code < 0:
        return 128 - code, reason or f"ended by {signals.name_of(-code)}"
    return code, reason or (f"ended with exit code {code}" if code else "")


def tell(message: str) -> None:
    """Keep the line that says why a run of a sweep failed for the process that started it."""
    if file := os.environ.get(REASON):
        with suppress(OSError):
            Path(file).write_text(message, encoding="utf-8", errors="replace")
