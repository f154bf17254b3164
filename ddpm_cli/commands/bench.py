"""ddpm bench."""

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ..build import bind
from ..early import check_early


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    what: Literal["samplers", "train", "sample", "data", "startup"],
    **options: Any,
) -> None:
    """Measure what a file of conf/what describes, into `folder`/bench.json; its keys are those of the module's `run`.

    Raises:
        ConfigError: a key of a wrong type or out of range.
    """
    check_early(f"ddpm_cli.bench.{what}.run", options)
    measure = import_module(f"ddpm_cli.bench.{what}").run
    measure(**bind(measure, options, config=config, folder=folder))
