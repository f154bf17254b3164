"""Hydra: composes a command's config from conf/ and the command line, runs the command on plain values.

Whatever goes wrong on the way becomes one line on stderr and an exit code.
"""

import logging
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Collection, Sequence
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

from .. import console
from ..build import bind, construct
from ..early import check_early
from ..errors import ConfigError, DdpmError, explain
from ..hardware.threads import set_spin_count
from ..runs.job import Job
from .compose import compose_command
from .help import explain_command
from .hydra_errors import explain_hydra
from .shipped import conf_dir, shipped_choices

log = logging.getLogger(__name__)
OmegaConf.register_new_resolver("ddpm.folder", lambda path: str(folder_of(str(path))), replace=True)


class UserConf(SearchPathPlugin):
    """A `conf` folder in the working directory comes before the shipped one, so its files add to it or shadow it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        mine = Path("conf")
        if mine.is_dir() and mine.resolve() != conf_dir().resolve():
            search_path.prepend("user", f"file://{mine.resolve()}")
            if str(Path.cwd()) not in sys.path:  # so that `_target_: my_pkg.Thing` finds the package beside it
                sys.path.insert(0, str(Path.cwd()))


def launch(name: str, arguments: Sequence[str]) -> int:
    """Run command `name` with Hydra's command line. Returns the exit code; never raises."""
    sys.argv = [sys.argv[0], *_sweep_folder(arguments)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra lets exceptions through to us
    warning = set_spin_count()
    Plugins.instance().register(UserConf)
    debug = any(a.lower() in ("debug=true", "debug=1", "+debug=true") for a in arguments)
    kept = {Path.cwd(), *([Path.cwd() / "outputs"] if Path("outputs").exists() else [])}
    codes: list[int] = []  # of jobs that failed: a sweep goes on with the next one, and answers with the first

    def report(error: BaseException) -> int:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        if isinstance(error, HydraException | OmegaConfBaseException):
            error = ConfigError(explain_hydra(error, name, list(arguments)))
        message, code = explain(error)
        if message:
            console.error(message)
        return code

    def task(config: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        if warning:
            log.warning("%s", warning)
        try:
            run(name, Job(plain(config), folder, keys_of(HydraConfig.get().overrides.task), shipped_choices))
        except Exception as error:  # kept from Hydra, which would print more than the one line
            codes.append(report(error))
        finally:
            _remove_empty(folder, kept)

    start = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)
    try:
        flags = _flags(arguments)
        if flags.help:
            console.show_help(explain_command(name, flags.overrides))
        else:
            start()
    except (DdpmError, HydraException, OmegaConfBaseException, OSError, MemoryError) as error:
        return report(error)
    except Exception as error:  # the command's own are caught in `task`: this is Hydra, about a strange line
        return report(ConfigError(f"command line: {' '.join(str(error).split())}; see ddpm {name} --help"))
    except BaseException as error:
        return report(error)
    return codes[0] if codes else 0


def call(name: str, overrides: Sequence[str]) -> Job:
    """Run command `name` from Python: its config composed with `overrides`, as on the command line.

    Raises:
        DdpmError: what the command raises; what Hydra raises, as one line.
    """
    Plugins.instance().register(UserConf)
    try:
        config = compose_command(name, overrides)
        folder = Path(config.hydra.run.dir)
        given = keys_of(config.hydra.overrides.task)
        job = Job(
            plain(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])),
            folder,
            given,
            shipped_choices,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_hydra(error, name, list(overrides))) from error
    with console.logs():
        run(name, job)
    return job


def run(name: str, job: Job) -> None:
    """The command's own code: its options are bound to the config and checked, once."""
    command = f"ddpm_cli.commands.{name}"
    check_early(f"{command}.Options", job.config)
    module = import_module(command)
    module.run(construct(module.Options, bind(module.Options, job.config)), job)


def keys_of(overrides: Sequence[str]) -> frozenset[str]:
    """["~model.x", "+sampler@y=z"] -> {"model.x", "sampler"}: what the user set."""
    return frozenset(text.lstrip("+~").partition("=")[0].partition("@")[0] for text in overrides)


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolved dicts, lists, numbers and text.

    Raises:
        ConfigError: a key refers to one that does not exist.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        key = error.full_key or "config"
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}; check what it refers to") from error
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def folder_of(path: str) -> Path:
    """`out=clips/eight.gif` names a file: its folder."""
    return Path(path).parent if Path(path).suffix in (".gif", ".mp4") else Path(path)


def _sweep_folder(arguments: Sequence[str]) -> list[str]:
    """In a sweep, run_dir=X (or out=X) is the folder above the jobs' own: they must not share one."""
    many = any(a in ("-m", "--multirun") for a in arguments)
    out = []
    for a in arguments:
        key, _, value = a.partition("=")
        out.append(
            f"hydra.sweep.dir={folder_of(value)}" if many and key in ("run_dir", "out") and "," not in value else a
        )
    return out


def _flags(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags, read as Hydra will read them; argparse alone would print its usage above the error."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; see ddpm --help")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(list(arguments))


def _remove_empty(folder: Path, kept: Collection[Path]) -> None:
    """Hydra makes the output directory before the command runs; one that stayed empty is removed, and its parents."""
    while folder not in kept and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
