"""cli -> commands -> {training, metrics, render} -> objectives -> diffusion; models and data are leaves."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {
    "cli": 0,
    "config": 1,
    "commands": 2,
    "training": 3,
    "metrics": 3,
    "render": 3,
    "objectives": 4,
    "diffusion": 5,
}
LEAVES = {"models", "data", "diffusion"}
ALLOWED_THIRD_PARTY = {"diffusion": {"torch"}, "objectives": {"torch"}, "models": {"torch"}}
ONLY_IN = {
    "hydra": {"cli", "config", "commands"},
    "omegaconf": {"cli", "config", "commands"},
    "rich": {"console"},
    "imageio": {"render"},
}


def unit(path: Path) -> str:
    """The package or top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Absolute module names, relative ones resolved."""
    found = []
    package = ["ddpm_cli", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names] if module == "ddpm_cli" else [module]
    return found


def test_there_is_something_to_check() -> None:
    assert {unit(f) for f in FILES} >= {
        "cli",
        "config",
        "commands",
        "training",
        "render",
        "objectives",
        "diffusion",
        "models",
        "data",
    }
    assert any("torch" in imports(f) for f in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_import_rule(path: Path) -> None:
    mine = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "ddpm_cli":
            other = parts[1] if len(parts) > 1 else ""
            if mine in LEAVES and other in LEVEL | dict.fromkeys(LEAVES, 0) and other != mine:
                pytest.fail(f"{path.name} imports {name}: {mine} is a leaf")
            if mine in LEVEL and other in LEVEL and not (mine == "cli" and other == "config"):
                assert LEVEL[mine] <= LEVEL[other] or (mine, other) == ("config", "cli"), (
                    f"{path.name} imports {name}: upwards"
                )
            assert not (mine != "console" and other == "console" and mine not in ("cli", "config", "commands")), (
                f"{name} in {mine}"
            )
        elif parts[0] in ONLY_IN:
            assert mine in ONLY_IN[parts[0]], f"{path.name} imports {name}"
        elif mine in ALLOWED_THIRD_PARTY:
            standard = parts[0] in __import__("sys").stdlib_module_names
            assert standard or parts[0] in ALLOWED_THIRD_PARTY[mine], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [f for f in FILES if unit(f) != "console"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_console_prints(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
