"""Composing a command's config without running it."""

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from .shipped import conf_dir


def compose_command(command: str, overrides: Sequence[str]) -> DictConfig:
    """With Hydra's own node. Raises what Hydra raises."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(command, list(overrides), return_hydra_config=True)
