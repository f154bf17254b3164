"""The YAML that comes with the program: where it lies, and which commands it makes."""

from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """Inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def commands() -> dict[str, str]:
    """Command -> one line about it: the first comment of its root config."""
    found = {}
    for path in conf_dir().glob("*.yaml"):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().lstrip("# ").strip()
    order = ("train", "sample", "gif", "eval", "table", "bench")
    return dict(
        sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0]))
    )


def shipped_choices(group: str) -> dict[str, dict[str, Any]]:
    """Every choice of a group as a plain node."""
    from omegaconf import OmegaConf  # the list of commands needs none

    found = {}
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(node, dict)
        found[path.stem] = {str(k): v for k, v in node.items()}
    return found
