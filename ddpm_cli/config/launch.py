"""Runs a command: Hydra composes its config from conf/ and the command line, the command gets plain values.

Every error becomes one line on stderr and an exit code.
"""

import logging
import os
import re
import sys
import threading
import time
import traceback
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from .. import console, signals
from ..build import checked, options_of
from ..early import check_early, check_finite
from ..errors import ConfigError, DdpmError, Stopped, StorageError, explain
from ..files import shown
from ..hardware.threads import set_spin_count
from ..ours import reserved
from ..runs.job import Job
from ..text import home
from .arguments import is_sweep, prepared
from .compose import compose_command
from .folders import existing, folder_key, folder_of, remove_empty
from .help import explain_command
from .hydra_errors import explain_hydra
from .shipped import conf_dir, shadow_line, shipped_choices
from .sweep_runs import forwarding, tell
from .sweeps import Sweep, in_sweep

log = logging.getLogger(__name__)
_COMPOSING = threading.Lock()
DEFAULT_FOLDER = re.compile(r"outputs/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d(-[a-z]+)?")
"""What `run_dir` and `out` are if the user names no folder."""
OmegaConf.register_new_resolver("ddpm.folder", lambda path: str(folder_of(str(path))), replace=True)


class UserConf(SearchPathPlugin):
    """Puts a `conf` folder in the working directory before the shipped one: its files add to it or shadow it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        user_conf = Path("conf")
        if user_conf.is_dir() and user_conf.resolve() != conf_dir().resolve():
            search_path.prepend("user", f"file://{user_conf.resolve()}")


@contextmanager
def _user_conf() -> Iterator[None]:
    """Makes `UserConf` known to Hydra; afterwards the configs of the calling program are searched as before."""
    plugins = Plugins.instance()
    plugins.register(UserConf)
    try:
        yield
    finally:  # Hydra has no function for it
        for known in plugins.plugin_type_to_subclass_list.values():
            if UserConf in known:
                known.remove(UserConf)
        plugins.class_name_to_class.pop(f"{UserConf.__module__}.{UserConf.__name__}", None)


class Task:
    """What Hydra calls with the config of a job. Launchers may send it to other processes."""

    def __init__(self, name: str, arguments: Sequence[str], started: float, first: str, sweep: Sweep | None):
        self.name, self.arguments, self.started, self.first, self.sweep = name, arguments, started, first, sweep
        self.kept = existing(arguments)
        self.code = 0

    def __call__(self, config: DictConfig) -> float | None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        for line in filter(None, (self.first, shadow_line())):
            log.info("%s", line)
        try:
            if in_sweep():
                return self._in_sweep(config, folder)
            self._run(config, folder)
            return None
        finally:
            remove_empty(folder, self.kept)

    def _run(self, config: DictConfig, folder: Path) -> None:
        try:
            values, given = plain(config), keys_of(HydraConfig.get().overrides.task)
            if signals.JOB in os.environ:
                from ..runs.asked import check_run  # imports torch

                check_run(folder, values)
            run_reserved(self.name, Job(values, folder, given, self.started, shipped_choices))
        except Exception as error:  # Hydra would print more than one line
            self.code = _report(self.name, self.arguments, error)

    def _in_sweep(self, config: DictConfig, folder: Path) -> float | None:
        if self.sweep is None:  # Hydra knows it from a file
            self.sweep = Sweep.of(self.name, self.arguments)
        code, value = 0, None
        label, reason, place = f"run {HydraConfig.get().job.num}", "", ""
        try:
            values = plain(config)
            label = self.sweep.label()
            if self.name == "train":
                done = self.sweep.train(values)
                code, reason, value, place = done.code, done.reason, done.value, done.folder
            else:
                values |= self.sweep.place(values, folder)
                given = keys_of(HydraConfig.get().overrides.task) | {"out"}
                folder = folder_of(str(values.get("out") or folder))
                run_reserved(self.name, Job(values, folder, given, choices=shipped_choices))
        except Exception as error:
            code = _report(self.name, self.arguments, error)
            reason = explain(error)[0]
        self.sweep.note(HydraConfig.get().job.num, code, label, reason, place)
        return value


def launch(name: str, arguments: Sequence[str]) -> int:
    """Run command `name` with Hydra's command line. Returns the exit code; never raises."""
    started = time.perf_counter()
    try:
        if signals.JOB not in os.environ:  # those of a run of a sweep are in Hydra's grammar already
            arguments = prepared(name, arguments)
    except BaseException as error:
        return _report(name, arguments, error)
    arguments = sorted(arguments, key=lambda a: not is_sweep([a]) or "=" in a)  # argparse wants overrides in one piece
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra does not handle exceptions itself
    fewer_threads = set_spin_count()
    Plugins.instance().register(UserConf)
    report = partial(_report, name, arguments)
    try:
        flags = _flags(arguments)
        if flags.help:
            console.show_help(explain_command(name, flags.overrides))
            return 0
        sweep = Sweep.of(name, arguments, _passed_on(flags)) if flags.multirun or is_sweep(arguments) else None
        sys.argv = [sys.argv[0], *(arguments if sweep is None else sweep.arguments(arguments))]
        task = Task(name, arguments, started, fewer_threads, sweep)
        return _run(task, flags)
    except (DdpmError, HydraException, OmegaConfBaseException, OSError, MemoryError) as error:
        return report(error)
    except Exception as error:  # not from the command, whose errors are caught in `Task`: Hydra cannot parse the line
        return report(ConfigError(f"command line: {' '.join(str(error).split())}; see ddpm {name} --help"))
    except BaseException as error:
        return report(error)


def _run(task: Task, flags: Namespace) -> int:
    """Let Hydra call the task. Returns the exit code."""
    try:
        try:
            with forwarding(task.sweep.results) if task.sweep else nullcontext():
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=task.name)(task)()
        except Exception:
            if task.sweep is None or not task.sweep.failed:  # a sweeper may not go on after a run that has failed
                raise
        return task.code if task.sweep is None or flags.hydra_help else task.sweep.end()  # that help runs nothing
    finally:
        if task.sweep is not None:
            task.sweep.close()


def _passed_on(flags: Namespace) -> list[str]:
    """The flags that each run of a sweep gets, too."""
    names = ("config_dir", "config_name", "config_path")
    return [
        text for name in names if (value := getattr(flags, name)) for text in (f"--{name.replace('_', '-')}", value)
    ]


def _report(name: str, arguments: Sequence[str], error: BaseException) -> int:
    """Print the error of command `name` as one line. Returns the exit code."""
    own = isinstance(error, KeyboardInterrupt | SystemExit)
    if (interrupted := signals.arrived()) is not None and not own:
        error = interrupted
    debug = any(a.lower() in ("debug=true", "debug=1", "+debug=true") for a in arguments)
    if debug and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        error = ConfigError(explain_hydra(error, name, list(arguments)))
    message, code = explain(error)
    if code == ConfigError.code and shadow_line():
        message += f" ({shadow_line()})"
    if isinstance(error, Stopped) and (is_sweep(arguments) or signals.JOB in os.environ):
        message = error.in_sweep(os.environ.get(signals.JOB))
    tell(message)
    if message:
        (console.stopped if isinstance(error, KeyboardInterrupt) else console.error)(message)
    return code


@checked
def call(name: str, overrides: Sequence[str]) -> Job:
    """Run command `name` from Python, with the same `overrides` as on the command line.

    Raises:
        DdpmError: an error of the command, or of Hydra as one line.
    """
    try:
        with _COMPOSING, _user_conf():
            config = compose_command(name, prepared(name, overrides))
        folder = Path(config.hydra.run.dir)
        given = keys_of(config.hydra.overrides.task)
        job = Job(
            plain(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])),
            folder,
            given,
            choices=shipped_choices,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_hydra(error, name, list(overrides))) from error
    from ..hardware.isolated import isolated  # imports torch

    kept = existing(overrides)
    try:
        with console.logs(), isolated():
            job = run_reserved(name, job)
    except OSError as error:
        raise StorageError(explain(error)[0]) from error
    finally:
        remove_empty(folder.absolute(), kept)
    return job


def run_reserved(name: str, job: Job) -> Job:
    """`run` in a folder that no other command writes into at the same time. Returns the job with that folder.

    Raises:
        BusyError: another command is writing there.
    """
    key = folder_key(name)
    path = str(job.config.get(key) or "")
    default = not job.sets(key) and bool(DEFAULT_FOLDER.fullmatch(path))
    if not default and (name in ("train", "table", "runs", "verify") or folder_of(path) != Path(home(path))):
        run(name, job)  # training has a lock of its own, and a single file such as a GIF needs none
        return job
    with reserved(job.folder, default) as folder:
        if folder != job.folder:
            job = replace(job, folder=folder, config={**job.config, key: shown(folder)})
        run(name, job)
    return job


def run(name: str, job: Job) -> None:
    """Run the command's own code. Its options are bound to the config and checked once."""
    command = f"ddpm_cli.commands.{name}"
    check_early(f"{command}.Options", job.config)
    check_finite(job.config)
    module = import_module(command)
    options = options_of(module.Options, job.config)
    signals.check()
    module.run(options, job)


def keys_of(overrides: Sequence[str]) -> frozenset[str]:
    """The keys and groups that the user set: ["~model.x", "+sampler@y=z"] -> {"model.x", "sampler"}."""
    return frozenset(text.lstrip("+~").partition("=")[0].partition("@")[0] for text in overrides)


def plain(config: DictConfig) -> dict[str, Any]:
    """The config, resolved to dicts, lists, numbers and text.

    Raises:
        ConfigError: a key refers to one that does not exist.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        key = error.full_key or "config"
        advice = r"check what it refers to, or type \${ where these characters are meant"
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}; {advice}") from error
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def _flags(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags, parsed as Hydra does; without this, argparse would print its usage above an error."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; see ddpm --help")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(list(arguments))
