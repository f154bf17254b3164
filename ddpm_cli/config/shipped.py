"""The YAML files that ship with the program: their folder, the commands and the choices they define."""

from pathlib import Path
from typing import Any

from ..trust import conf_dir


def commands() -> dict[str, str]:
    """Command -> its one-line description, which is the first comment of its root config."""
    descriptions = {}
    for path in conf_dir().glob("*.yaml"):
        with path.open(encoding="utf-8") as file:
            descriptions[path.stem] = file.readline().lstrip("# ").strip()
    order = ("train", "sample", "gif", "eval", "table", "runs", "bench", "verify")
    rank = {name: index for index, name in enumerate(order)}
    return dict(sorted(descriptions.items(), key=lambda item: (rank.get(item[0], len(order)), item[0])))


def shadowed() -> list[str]:
    """The files in a folder `conf` of the working directory that are used in place of shipped ones of the same name."""
    own, shipped = Path("conf"), conf_dir()
    if not own.is_dir() or own.resolve() == shipped.resolve():
        return []
    names = (path.relative_to(own) for path in sorted(own.rglob("*.yaml")))
    return [str(own / name) for name in names if (shipped / name).is_file()]


def shadow_line() -> str:
    """A line about those files; "" if there are none."""
    files = shadowed()
    listed = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    return (
        f"{listed} in this folder {'is' if len(files) == 1 else 'are'} used instead of the shipped one" if files else ""
    )


def shipped_choices(group: str) -> dict[str, dict[str, Any]]:
    """All shipped choices of a group, as plain nodes."""
    from omegaconf import OmegaConf  # imported here because `commands` must be fast

    nodes = {}
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(node, dict)
        nodes[path.stem] = {str(k): v for k, v in node.items()}
    return nodes
