"""Finished evaluations and runs of classifiers, as they lie on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError
from ..objectives.classify import Classify
from ..runs.assemble import network

WILD = "*?["
EVALUATE = "name the out folder of ddpm eval ckpt={}"
NOT_DATA = ("_target_", "root", "download", "flip")
"""Keys of `dataset` that leave the held-out images as they are."""


@dataclass(frozen=True)
class Evaluated:
    """An eval.json."""

    name: str
    content: Mapping[str, Any]

    @staticmethod
    def at(folder: Path) -> bool:
        return (folder / "eval.json").is_file()

    @classmethod
    def read(cls, folder: Path, name: str) -> "Evaluated":
        """Raises DataError when it is damaged."""
        path = folder / "eval.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["protocol"].items(), content.get("figures", {}).items(), content.get("bits_per_dim", {}).items()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: is damaged; run ddpm eval again") from error
        return cls(name, content)

    @property
    def protocol(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content["protocol"]
        return found

    @property
    def figures(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.content.get("figures", {})
        return found


@dataclass(frozen=True)
class Trained:
    """A run of a classifier. validation, test: accuracies where it has them."""

    name: str
    model: str
    noisy: bool
    dataset: Mapping[str, Any]
    validation: float | None
    test: float | None
    parameters: int

    @staticmethod
    def at(folder: Path) -> bool:
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            target = str(config["objective"]["_target_"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return target.rpartition(".")[2] == Classify.__name__ and (folder / "metrics.jsonl").is_file()

    @staticmethod
    def measured(folder: Path) -> bool:
        """Whether the run at `folder` has an accuracy already."""
        return _row_of(folder) is not None

    @classmethod
    def read(cls, folder: Path, name: str, trust: Sequence[str]) -> "Trained":
        """The last row of metrics.jsonl that has a test accuracy, else the last with a validation accuracy.

        Raises:
            ConfigError: it has neither, or its network cannot be built.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        row = _row_of(folder)
        if row is None:
            raise ConfigError(f"of: {folder} has no accuracy yet; let it reach trainer.eval_every, or its end")
        module = network(dict(config), trust={"ddpm_cli", *trust})
        data = {k: v for k, v in config["dataset"].items() if k not in NOT_DATA}
        parameters = sum(p.numel() for p in module.parameters())
        noisy = bool(config["objective"].get("noisy", True))
        accuracies = row.get("val_accuracy"), row.get("test_accuracy")
        return cls(name, type(module).__name__, noisy, data, *accuracies, parameters)


def _row_of(folder: Path) -> dict[str, Any] | None:
    rows = _rows(folder / "metrics.jsonl")
    return next((r for key in ("test_accuracy", "best_step", "val_accuracy") for r in rows if key in r), None)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The last first; lines that were cut short are skipped."""
    found = []
    for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


class Entries(NamedTuple):
    """left_out: runs that a pattern matches and that have no accuracy yet."""

    found: list[Evaluated | Trained]
    left_out: list[Path]


def find(of: Sequence[str], trust: Sequence[str]) -> Entries:
    """What lies at the paths and patterns, each folder once.

    Raises:
        ConfigError: a folder that is neither an evaluation nor a run of a classifier, or a pattern without any.
        CheckpointError, DataError: one that is damaged.
    """
    folders: list[Path] = []
    left_out: list[Path] = []
    for text in of or [""]:
        if has_wildcard(text):
            hits = _hits(text)
            early = [hit for hit in hits if not Evaluated.at(hit) and not Trained.measured(hit)]
            if 0 < len(early) < len(hits):  # who asks for all that there is need not hear of it in an error
                left_out += early
                hits = [hit for hit in hits if hit not in early]
            folders += hits
        else:
            folders.append(_one(text))
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    names = [f.resolve().name for f in distinct]
    if len(set(names)) < len(names):
        names = [str(f) for f in distinct]
    found = [
        Evaluated.read(folder, name) if Evaluated.at(folder) else Trained.read(folder, name, trust)
        for folder, name in zip(distinct, names, strict=True)
    ]
    return Entries(found, left_out)


def has_wildcard(text: str) -> bool:
    """Whether it is a pattern, and not the name of something that is there."""
    return any(c in text for c in WILD) and not Path(text).exists()


def _hits(text: str) -> list[Path]:
    """Evaluations and runs of classifiers that a pattern matches, in the order of their names."""
    pattern = Path(text)
    anchor = Path(pattern.anchor or ".")
    there = sorted(anchor.glob(str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern)))
    hits = [hit for hit in there if Evaluated.at(hit) or Trained.at(hit)]
    runs = [hit for hit in there if (hit / "config.json").is_file()]
    if runs and not hits:
        what = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        raise ConfigError(f"of: {text} matches {what} without an evaluation; {EVALUATE.format(runs[0])}")
    if not hits:
        raise ConfigError(f"of: {text} matches no evaluation and no run of a classifier; check the pattern")
    return hits


def _one(text: str) -> Path:
    folder = Path(text)
    if not text or not folder.is_dir():
        raise ConfigError(
            f"of: {text or 'is empty'}: is no folder; name out folders of ddpm eval or runs of classifiers"
        )
    if Evaluated.at(folder) or Trained.at(folder):
        return folder
    if (folder / "config.json").is_file():
        raise ConfigError(f"of: {text} is a run without an evaluation; {EVALUATE.format(text)}")
    raise ConfigError(f"of: {text} has no eval.json; name out folders of ddpm eval or runs of classifiers")
