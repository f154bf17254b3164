"""Loggers for a run's numbers and pictures, besides its own files: TensorBoard, Weights & Biases, trackio."""

import importlib
import importlib.util
import io
import json
import logging
import secrets
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn

from ..build import Node, build
from ..errors import ConfigError
from ..files import naming, shown, write_json
from ..models.classifier_layers import Classifier
from ..text import NameText

log = logging.getLogger(__name__)
NAME_FILE = "tracker.json"


class Logger(Protocol):
    """A logger that is open for a run. `step` only decreases when a run resumes from an earlier step."""

    def scalars(self, step: int, values: Mapping[str, Any]) -> None: ...

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        """(H,W,C) uint8."""
        ...

    def graph(self, network: nn.Module, shape: Sequence[int]) -> None:
        """The graph of the network, for an image of `shape` (C,H,W). Only called for classifiers."""
        ...

    def close(self) -> None: ...


class LoggerChoice(Protocol):
    """A choice of conf/logger: a frozen value that opens a logger."""

    def open(self, folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
        """Open it for the run in `folder` at `step`. What an earlier session logged beyond is dropped if possible."""
        ...


@dataclass(frozen=True)
class TensorBoard:
    """Event files in RUN/tensorboard."""

    def open(self, folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
        from torch.utils.tensorboard import SummaryWriter  # half a second to import

        before = _quiet_threads()  # also if it cannot start: its thread may still raise
        with naming(folder / "tensorboard"):
            return _TensorBoard(SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1), before)


def _quiet_threads() -> Callable[[threading.ExceptHookArgs], Any]:
    """Print no traceback of a thread that writes event files: TensorBoard raises its error again in the next call.

    Returns the hook that was in place before.
    """
    before = threading.excepthook

    def quiet(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            before(arguments)

    threading.excepthook = quiet
    return before


class _TensorBoard:
    def __init__(self, writer: Any, excepthook: Callable[[threading.ExceptHookArgs], Any]):
        """excepthook: of threads, restored by `close`."""
        self.writer, self._excepthook = writer, excepthook

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def graph(self, network: nn.Module, shape: Sequence[int]) -> None:
        add_graph(self.writer, network, shape)

    def close(self) -> None:
        try:
            self.writer.close()
        finally:
            threading.excepthook = self._excepthook


@dataclass(frozen=True)
class Tracker:
    """Weights & Biases, or trackio, which has the same API and stores everything locally.

    A resumed run continues under its name, a new run never joins an older one of the same path.

    Args:
        name: the name of the run; None = its path and a few random letters.
        options: passed unchanged to the package's `init`.

    Raises:
        ConfigError: the package is not installed.
    """

    package: Literal["wandb", "trackio"]
    project: NameText = "ddpm-cli"
    name: NameText | None = None
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise ConfigError(
                f"logger: {self.package} is not installed; pip install 'ddpm-cli[{self.package}]', or use tensorboard"
            )

    def open(self, folder: Path, step: int, config: Mapping[str, Any]) -> Logger:
        package = importlib.import_module(self.package)
        unique = _unique_name(folder, step)
        name = self.name or unique
        own = {"id": unique, "dir": str(folder)} if self.package == "wandb" else {}
        common = {"project": self.project, "name": name, "config": dict(config), "resume": "allow"}
        with redirect_stdout(io.StringIO()):  # both print a greeting
            run = package.init(**{**common, **own, **(self.options or {})})
        write_json(folder / NAME_FILE, {"name": unique})
        return _Tracker(package, run)


def _unique_name(folder: Path, step: int) -> str:
    """The name of the run in `folder`, made when the run is new and kept in a file there."""
    path, kept = "_".join(part for part in Path(shown(folder)).parts if part != folder.anchor), folder / NAME_FILE
    if step:
        return str(json.loads(kept.read_text(encoding="utf-8"))["name"]) if kept.exists() else path
    return f"{path}-{secrets.token_hex(2)}"


class _Tracker:
    def __init__(self, package: Any, run: Any):
        self.package, self.run = package, run

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        image = picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture
        self.run.log({name: self.package.Image(image)}, step=step)

    def graph(self, network: nn.Module, shape: Sequence[int]) -> None:
        pass

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self.package.finish()


class Loggers:
    """Any number of loggers as one. A logger that fails is dropped with a warning and never ends the run."""

    def __init__(self, loggers: Mapping[str, Logger]):
        self._loggers = dict(loggers)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        self._all(lambda logger: logger.scalars(step, values))

    def picture(self, step: int, name: str, picture: np.ndarray) -> None:
        self._all(lambda logger: logger.picture(step, name, picture))

    def graph(self, network: nn.Module, shape: Sequence[int]) -> None:
        self._all(lambda logger: logger.graph(network, shape))

    def close(self) -> None:
        self._all(lambda logger: logger.close())
        self._loggers = {}

    def _all(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                call(logger)
            except Exception as error:  # a full disk, a lost network, an error of the package
                log.warning("logger.%s: failed (%s); the run continues without it", name, _reason(error))
                del self._loggers[name]
                with suppress(Exception):
                    logger.close()


def choices_of(nodes: Mapping[str, Node]) -> dict[str, LoggerChoice]:
    """Builds the `logger` node of a config, which has one entry per logger. Raises ConfigError for a bad entry."""
    if not isinstance(nodes, Mapping) or "_target_" in nodes:
        raise ConfigError(
            "logger: a file of conf/logger needs a name above its keys, as in conf/logger/tensorboard.yaml"
        )
    return {name: build(node, f"logger.{name}") for name, node in nodes.items()}


def open_loggers(
    choices: Mapping[str, LoggerChoice], folder: Path, step: int, config: Mapping[str, Any], required: bool = True
) -> Loggers:
    """Opens all loggers for the run in `folder`. In a resumed run, one that cannot start is left out with a warning.

    Args:
        required: they must start in a new run.

    Raises:
        ConfigError: a logger cannot start (no account, no network), and the run is new, so that nothing is lost.
    """
    opened = {}
    for name, choice in choices.items():
        try:
            opened[name] = choice.open(folder, step, config)
        except Exception as error:  # an error of the package
            reason = _reason(error)
            if required and not step:
                Loggers(opened).close()
                if isinstance(error, OSError) and error.filename is not None:  # the run's folder cannot be written
                    raise
                raise ConfigError(f"logger.{name}: cannot start ({reason}); fix that, or set logger=none") from error
            log.warning("logger.%s: cannot start (%s); the run continues without it", name, reason)
    return Loggers(opened)


def _reason(error: Exception) -> str:
    """The first line of an error's message, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def add_graph(writer: Any, network: nn.Module, shape: Sequence[int]) -> None:
    """Trace a copy of a network on one image of `shape` (C,H,W). A failure is only logged.

    The copy is on the CPU and in evaluation mode, so that neither batch statistics nor random numbers change.

    Args:
        writer: a SummaryWriter.
    """
    image = torch.zeros(1, *shape)
    untimed = isinstance(network, Classifier) and not network.timed
    inputs = (image,) if untimed else (image, torch.zeros(1))
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.random.fork_rng(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns that the graph is valid for one size only
            writer.add_graph(deepcopy(network).cpu().eval(), inputs)
    except Exception as error:  # tracing can raise almost anything
        log.info("TensorBoard will not show the graph of the network (%s)", str(error).strip().partition("\n")[0])
