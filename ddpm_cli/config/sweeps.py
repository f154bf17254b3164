"""Sweeps: which folder each run gets, and how it is run."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from .. import console
from ..errors import BusyError, ConfigError
from ..files import override, shown
from ..progress import silent
from ..text import quoted, unquoted
from .arguments import SWEEP
from .folders import folder_key, folder_of
from .sweep_runs import key_of, name_of, reached, resolved
from .sweep_runs import train as train_run

ALONE = (*SWEEP, "--info", "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r")
"""Flags of Hydra without a value."""
NUMBERED = re.compile(r"\$\{hydra[:.]job\.(num|id|override_dirname)\}")
"""In a folder's name: each run has its own."""
NO_METRIC = "sweep_metric: is not set; this sweeper needs a logged metric, such as val_loss or loss"
OF_SWEEP = re.compile(r"[+~]*hydra[./](mode|sweep|sweeper|launcher)\b")


class Done(NamedTuple):
    """What became of a run. value: of the metric that a sweeper asks for."""

    code: int
    folder: str
    reason: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep of one command; its runs say what became of them.

    Args:
        swept: the keys and groups that have several values.
        said: the keys that the folder's own name says, as in run_dir='runs/${seed}'.
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
    def of(cls, command: str, arguments: Sequence[str], flags: Sequence[str] = ()) -> "Sweep":
        """The sweep that a command line describes. `close` it at the end."""
        swept: set[str] = set()
        text, several, own = "", False, False
        parser = OverridesParser.create()
        for argument in arguments:
            with suppress(HydraException):  # a flag, or one that Hydra will refuse
                override = parser.parse_override(argument)
                sweeps = override.is_sweep_override()
                own = own or override.key_or_group == "hydra.sweep.dir"
                if override.key_or_group == folder_key(command):
                    text, several = unquoted(override.get_value_string() or ""), sweeps
                elif sweeps:
                    swept.add(override.key_or_group)
        names = re.findall(r"\$\{([\w.]+)\}", text)
        said = swept | {"hydra"} if NUMBERED.search(text) else set(names)
        start = re.split(r"[^/\\]*\$\{", text)[0]
        root = None if several or own or not start else folder_of(start)
        together = any(a.startswith("hydra/launcher=") for a in arguments)
        if together:  # perhaps on other machines, which share this folder
            (place := root or Path("outputs")).mkdir(parents=True, exist_ok=True)
        results = Path(tempfile.mkdtemp(prefix=".sweep-", dir=place if together else None)).absolute()
        return cls(command, frozenset(swept), frozenset(said), bool(text), root, tuple(flags), results)

    def close(self) -> None:
        shutil.rmtree(self.results, ignore_errors=True)

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """As Hydra must see them."""
        place = [] if self.root is None else [f"hydra.sweep.dir={quoted(str(self.root))}"]
        given = [a.lstrip("+").partition("=")[0] for a in arguments]
        other = [a for a in arguments if a.startswith("hydra/sweeper=") and a != "hydra/sweeper=basic"]
        if self.command == "train" and other and "sweep_metric" not in given:
            raise ConfigError(NO_METRIC)
        if "hydra/sweeper=optuna" in arguments and "hydra.sweeper.max_failure_rate" not in given:
            place.append("hydra.sweeper.max_failure_rate=1.0")  # one that fails must not end the others
        flags = [a.startswith("-") and "=" not in a and a not in ALONE for a in arguments]  # their value follows
        after = [False, *flags]
        places = (i for i, a in enumerate(arguments) if not a.startswith("-") and not after[i])
        first = next(places, len(arguments))
        return [*arguments[:first], *place, *arguments[first:]]  # in one piece with the other overrides

    @property
    def keys(self) -> frozenset[str]:
        """The keys that the sweep is over, also those that a config and not the command line says."""
        return self.swept | frozenset(HydraConfig.get().sweeper.get("params") or ())

    def folder(self, config: Mapping[str, Any]) -> tuple[Path, str]:
        """The folder that the config names, and a name below it that tells the run from others; "" if it needs none."""
        key = folder_key(self.command)
        own = self.named and (self.root is None or bool(self.said)) and not self._dir_given
        parent = folder_of(str(config.get(key) or "")) if own else self.root or Path(HydraConfig.get().sweep.dir)
        chosen = [text for text in HydraConfig.get().overrides.task if key_of(text) != key]
        unsaid = [text for text in chosen if key_of(text) in self.keys - self.said]
        if not self.keys and not own:  # one run only: by all that it was asked for
            from ..runs.asked import MOVABLE

            unsaid = [text for text in chosen if not any(f"{key_of(text)}.".startswith(f"{k}.") for k in MOVABLE)]
        return parent, name_of(unsaid) if unsaid else "" if own else "run"

    @property
    def _dir_given(self) -> bool:
        return self.root is None and any("hydra.sweep.dir=" in text for text in HydraConfig.get().overrides.hydra)

    def place(self, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The key that names the folder, or the file in it, of a run that is no training. folder: Hydra's for it."""
        if config.get("out") is None:
            return {}
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
        from ..runs.asked import Asked, check_same, find, is_finished

        given, metric = HydraConfig.get().overrides, config.get("sweep_metric")
        if metric is None and not _one_by_one("sweeper", "BasicSweeper"):
            raise ConfigError(NO_METRIC)
        asked = Asked(config, {key_of(text): text.partition("=")[2] for text in given.task}, self.keys)
        parent, name = self.folder(config)
        if self._own_folder:
            parent, name = Path(HydraConfig.get().runtime.output_dir), ""
        folder = find(parent, name, asked) if name else parent
        if not name:
            check_same(folder, asked)
        if is_finished(folder, asked):
            console.say(f"{shown(folder)}: already finished")
            return Done(0, str(folder), value=reached(folder, metric))
        asked.write(folder)
        raw = OmegaConf.to_container(given, resolve=False)
        assert isinstance(raw, dict)
        overrides = [resolved(text, config) for text in raw["task"] if key_of(text) != "run_dir"]
        overrides += [text for text in raw["hydra"] if not OF_SWEEP.match(text)]
        place = override("run_dir", shown(parent)) if name else ""
        alone = _one_by_one("launcher", "BasicLauncher")
        if not alone:  # the lines of several would be mixed
            console.say(f"{shown(folder)}: started")
        arguments = ["train", *self.flags, *overrides, f"run_dir={quoted(str(folder))}"]
        code, reason = train_run(arguments, place, None if alone else self.results)
        if code != BusyError.code:  # else it is another process's run
            asked._replace(code=code, reason=reason).write(folder)
        if not alone:
            console.say(f"{shown(folder)}: {reason or 'finished'}")
        return Done(code, str(folder), reason, reached(folder, metric) if code == 0 else None)

    def label(self) -> str:
        """What tells the current run from the others, as it was typed."""
        overrides = HydraConfig.get().overrides.task
        return " ".join(text for text in overrides if key_of(text) in self.keys) or " ".join(overrides)

    def _compare(self, root: Path, folders: Sequence[str]) -> None:
        """Show all runs of the sweep, those of earlier commands too, and keep the table in its folder."""
        from ..commands.runs import show
        from ..evaluation.board import write_board
        from ..evaluation.choosing import best_first
        from ..evaluation.listing import find

        shared = root.is_dir() and not (self.named and self.root is None and not _all_below(root, folders))
        runs = best_first(find([str(root)] if shared else folders))
        if len(runs) < 2:
            return
        show([replace(run, reason="") for run in runs])
        if shared:
            try:
                notes = write_board(root, runs, "run_dir", 0, (), silent)
            except (ConfigError, OSError, ValueError) as error:  # the runs themselves are done
                notes = [str(error)]
            for note in notes:
                console.note(note)
            console.note(f"list them again with ddpm runs {override('of', shown(root)).removeprefix('of=')}")

    def note(self, number: int, code: int, label: str, reason: str, folder: str) -> None:
        """Keep what became of run `number`, for `end`."""
        file = self.results / f"{number:06d}"
        root = str(self.root or HydraConfig.get().sweep.dir)
        found = {"code": code, "label": label, "reason": reason, "folder": folder, "dir": root}
        file.write_text(json.dumps(found), encoding="utf-8")

    @property
    def _done(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.results.glob("[0-9]*"))]

    @property
    def failed(self) -> bool:
        return any(run["code"] for run in self._done)

    def end(self) -> int:
        """Say which runs failed, and why. Returns the first exit code that is not 0.

        Raises:
            ConfigError: there were no runs.
        """
        done = self._done
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
        if self.command == "train":
            self._compare(Path(done[0]["dir"]), [run["folder"] for run in done if run["folder"]])
        return next((int(run["code"]) for run in failed), 0)


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


def _all_below(root: Path, folders: Sequence[str]) -> bool:
    return bool(folders) and all(root.absolute() in Path(folder).absolute().parents for folder in folders)


def _one_by_one(part: str, name: str) -> bool:
    """Whether the launcher or the sweeper is Hydra's own."""
    return str(getattr(HydraConfig.get(), part)["_target_"]).endswith(name)
