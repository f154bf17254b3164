"""Reads finished evaluations and runs of classifiers from their folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError, OutOfMemoryError, explain
from ..files import read_regular, read_sealed, shown
from ..objectives.classify import Classify
from ..runs.assemble import network
from ..runs.bounds import check_numbers
from ..runs.logs import row_of
from ..runs.newest import followed
from ..runs.stored import config_of, rows_changed
from .settings import settings_of

MOST = 10**15
"""The largest whole number in an evaluation or a row of metrics."""
SETTINGS, LONGEST = 1000, 1000
"""The most settings of a run in an evaluation, and the characters of one of them."""
WILD = "*?["
EVALUATE = "run ddpm eval ckpt={} and name its out folder"
NOT_DATA = ("_target_", "root", "download", "flip")
"""Keys of `dataset` that do not change the held-out images."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, read from eval.json."""

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
            content = read_sealed(path)
            _check(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: is damaged; run ddpm eval again") from error
        return cls(name, content)

    @property
    def protocol(self) -> Mapping[str, Any]:
        protocol: Mapping[str, Any] = self.content["protocol"]
        return protocol

    @property
    def figures(self) -> Mapping[str, Any]:
        figures: Mapping[str, Any] = self.content.get("figures", {})
        return figures

    @property
    def settings(self) -> Mapping[str, str]:
        """Those of the run that was evaluated; empty for samples from files, and for older evaluations."""
        settings: Mapping[str, str] = self.protocol.get("settings") or {}
        return settings


def _check(content: Any) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError if an evaluation has a value of a wrong kind."""
    protocol, figures, bits = content["protocol"], content.get("figures", {}), content.get("bits_per_dim", {})
    numbers = [protocol["n"]] if bits else []
    for figure in bits.values():
        numbers += [figure["mean"], figure["error"]]
    for figure in figures.values():
        figure["protocol"].keys(), [figure["protocol"][name] for name in ("n", "n_real", "split", "data")]
        numbers += [figure["value"], figure.get("spread")]
    protocol.get("bpd", {}).keys()
    settings = protocol.get("settings") or {}
    if len(settings) > SETTINGS or not all(isinstance(v, str) and len(v) <= LONGEST for v in settings.values()):
        raise ValueError("settings")
    if bits and not {"dataset", "split"} <= protocol.keys():
        raise ValueError("protocol")
    if not all(number is None or _is_number(number) for number in numbers):
        raise ValueError("a number")


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST)


@dataclass(frozen=True)
class Trained:
    """A run of a classifier. validation, test: its accuracies, or None; settings: see `settings_of`."""

    name: str
    model: str
    noisy: bool
    dataset: Mapping[str, Any]
    validation: float | None
    test: float | None
    parameters: int
    settings: Mapping[str, str]

    @staticmethod
    def at(folder: Path) -> bool:
        try:
            config = config_of(folder)
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
            ConfigError: it has neither.
            DataError: its network cannot be built, or the rows have changed since they were written.
        """
        config = config_of(folder)
        row = _row_of(folder)
        if row is None:
            raise ConfigError(f"of: {folder} has no accuracy yet; train it until its first validation or its end")
        if rows_changed(folder):
            raise DataError(
                f"{shown(folder / 'metrics.jsonl')}: is damaged, rows are lost or changed; restore it, or measure the "
                f"accuracy again with ddpm eval ckpt={shown(folder)}"
            )
        try:
            check_numbers(config, {})
            module = network(dict(config), trust=frozenset(trust))
            data = {k: v for k, v in config["dataset"].items() if k not in NOT_DATA}
            noisy = bool(config["objective"].get("noisy", True))
        except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            if explain(error)[1] == OutOfMemoryError.code:
                raise
            raise DataError(f"{folder / 'config.json'}: describes no classifier; restore it or leave it out") from error
        parameters = sum(p.numel() for p in module.parameters())
        accuracies = row.get("val_accuracy"), row.get("test_accuracy")
        return cls(name, type(module).__name__, noisy, data, *accuracies, parameters, settings_of(config))


def _row_of(folder: Path) -> dict[str, Any] | None:
    rows = _rows(folder / "metrics.jsonl")
    return next((r for key in ("test_accuracy", "best_step", "val_accuracy") for r in rows if key in r), None)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, the last one first; incomplete lines are skipped."""
    rows = []
    for line in reversed(read_regular(path).splitlines()):
        row = row_of(line)
        if row is not None:
            rows.append({k: v for k, v in row.items() if not k.endswith("accuracy") or v is None or _is_number(v)})
    return rows


class Entries(NamedTuple):
    """left_out: runs matched by a pattern that have no accuracy yet."""

    found: list[Evaluated | Trained]
    left_out: list[Path]


def find(of: Sequence[str], trust: Sequence[str]) -> Entries:
    """The evaluations and runs at the paths and patterns `of`, each folder once.

    Raises:
        ConfigError: a folder that is neither an evaluation nor a run of a classifier, or a pattern that matches none.
        CheckpointError, DataError: one of them is damaged.
    """
    folders: list[Path] = []
    left_out: list[Path] = []
    for text in of or [""]:
        if has_wildcard(text):
            matches = _matches(text)
            early = [match for match in matches if not Evaluated.at(match) and not Trained.measured(match)]
            if 0 < len(early) < len(matches):  # for a pattern these are skipped, for a named folder they are an error
                left_out += early
                matches = [match for match in matches if match not in early]
            folders += matches
        else:
            folders.append(_one(text))
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    names = [f.resolve().name for f in distinct]
    if len(set(names)) < len(names):
        names = [str(f) for f in distinct]
    entries = [
        Evaluated.read(folder, name) if Evaluated.at(folder) else Trained.read(folder, name, trust)
        for folder, name in zip(distinct, names, strict=True)
    ]
    return Entries(entries, left_out)


def has_wildcard(text: str) -> bool:
    """Whether `text` is a pattern, and not the name of an existing folder."""
    return any(c in text for c in WILD) and not Path(text).exists()


def _matches(text: str) -> list[Path]:
    """Evaluations and runs of classifiers that a pattern matches, sorted by name."""
    pattern = Path(text)
    anchor = Path(pattern.anchor or ".")
    paths = sorted(anchor.glob(str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern)))
    matches = [path for path in paths if Evaluated.at(path) or Trained.at(path)]
    runs = [path for path in paths if (path / "config.json").is_file()]
    if runs and not matches:
        what = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        raise ConfigError(f"of: {text} matches {what} without an evaluation; {EVALUATE.format(runs[0])}")
    if not matches:
        raise ConfigError(f"of: {text} matches no evaluation and no run of a classifier; check the pattern")
    return matches


def _one(text: str) -> Path:
    folder = followed(Path(text))
    if not text or not folder.is_dir():
        problem = f"{text} is not a folder" if text else "is empty"
        raise ConfigError(f"of: {problem}; name out folders of ddpm eval or runs of classifiers")
    if Evaluated.at(folder) or Trained.at(folder):
        return folder
    if (folder / "config.json").is_file():
        raise ConfigError(f"of: {text} is a run without an evaluation; {EVALUATE.format(text)}")
    raise ConfigError(f"of: {text} has no eval.json; name out folders of ddpm eval or runs of classifiers")
