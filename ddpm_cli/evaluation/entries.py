"""Finished evaluations and runs of classifiers, as they lie on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..objectives.classify import Classify
from ..runs.assemble import network

NOT_DATA = ("_target_", "root", "download", "flip")
"""Keys of `dataset` that leave the held-out images as they are."""


@dataclass(frozen=True)
class Evaluation:
    """An eval.json."""

    name: str
    content: Mapping[str, Any]

    @staticmethod
    def at(folder: Path) -> bool:
        return (folder / "eval.json").is_file()

    @classmethod
    def read(cls, folder: Path, name: str) -> "Evaluation":
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
