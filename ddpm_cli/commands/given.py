"""What stands on the command line."""

from hydra.core.hydra_config import HydraConfig


def given(key: str) -> bool:
    """Whether the user set `key` or something below it. False where no command runs."""
    if not HydraConfig.initialized():
        return False
    names = (text.lstrip("+~").partition("=")[0].partition("@")[0] for text in HydraConfig.get().overrides.task)
    return any(name == key or name.startswith(f"{key}.") for name in names)
