"""Prints the oldest versions that pyproject.toml allows, as pip's requirements: `make test-lowest` installs them.

`rich>=13.7` becomes `rich==13.7`. The lower bounds of torch and torchvision must be a pair of releases that belong
together, otherwise pip refuses to install them.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("dev",)
"""The tests need these; they include what the other extras need, but for wandb, which no test imports."""


def lowest(project: Mapping[str, Any], extras: Iterable[str] = EXTRAS) -> list[str]:
    """`name==version` of each requirement, in order, each once. Raises ValueError for one without a lower bound."""
    wanted = [*project["dependencies"], *(r for e in extras for r in project["optional-dependencies"][e])]
    return list(dict.fromkeys(_pinned(requirement) for requirement in wanted))


def _pinned(requirement: str) -> str:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)>=([0-9.]+)(,<[0-9.]+)?", requirement.replace(" ", ""))
    if match is None:
        raise ValueError(f"{requirement}: has no lower bound; write NAME>=VERSION")
    return f"{match[1]}=={match[2]}"


if __name__ == "__main__":
    print("\n".join(lowest(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"])))
