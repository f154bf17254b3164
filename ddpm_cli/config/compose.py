"""Composes the config of a command without running it."""

import threading
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.initialize import get_gh_backup, restore_gh_from_backup
from omegaconf import DictConfig

from .shipped import conf_dir

_ONE_AT_A_TIME = threading.Lock()
"""Hydra keeps its state in globals."""


def compose_command(command: str, overrides: Sequence[str]) -> DictConfig:
    """The config with Hydra's own node. Keeps the Hydra state of a calling program. Raises what Hydra raises."""
    with _ONE_AT_A_TIME:
        before = get_gh_backup()
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                return compose(command, list(overrides), return_hydra_config=True)
        finally:
            restore_gh_from_backup(before)
