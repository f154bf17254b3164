"""The import rule: one ordered list ranks every module, and a file imports from its own unit or from later ones."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDER = (
    "__main__",
    "cli",
    "__init__",  # the Python API
    "config",
    "commands",
    "console",
    "bench | evaluation",
    "training",
    "sampling",
    "runs",
    "render | objectives",
    "hardware | diffusion | models | data | metrics",
    "early",
    "build",
    "errors | files | progress",
)
"""From what may import everything below it to what imports nothing of ours. Units joined by | never meet."""
RANK = {unit: rank for rank, units in enumerate(ORDER) for unit in units.split(" | ")}
ABOVE_CONSOLE = {"__main__", "cli", "__init__", "config", "commands", "console"}
THIRD_PARTY = {"diffusion": {"torch"}, "objectives": {"torch"}, "models": {"torch"}}
"""All that these units may import besides the standard library."""
ONLY_IN = {
    "hydra": {"cli", "config", "commands"},
    "omegaconf": {"cli", "config", "commands"},
    "rich": {"console"},
    "imageio": {"render"},
}


def unit(path: Path) -> str:
    """The folder or top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of everything imported, at the top of the file or within a function."""
    found: list[tuple[int, str]] = []
    package = ["ddpm_cli", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def ours(path: Path) -> list[tuple[int, str]]:
    """Line and unit of what a file imports from this package."""
    names = [(line, name.split(".")) for line, name in imports(path)]
    return [(line, parts[1] if len(parts) > 1 else "__init__") for line, parts in names if parts[0] == "ddpm_cli"]


def test_every_module_has_a_rank() -> None:
    assert {unit(f) for f in FILES} == RANK.keys()
    assert any(name.split(".")[0] == "torch" for f in FILES for _, name in imports(f))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_imported_from_above(path: Path) -> None:
    mine = unit(path)
    for line, other in ours(path):
        assert other == mine or RANK[mine] < RANK[other], f"{path}:{line}: {mine} may not import {other}"
        assert other != "console" or mine in ABOVE_CONSOLE, f"{path}:{line}: only commands show things"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    mine = unit(path)
    for line, name in imports(path):
        top = name.split(".")[0]
        if top in ONLY_IN:
            assert mine in ONLY_IN[top], f"{path}:{line}: {name} belongs to {', '.join(sorted(ONLY_IN[top]))}"
        if mine in THIRD_PARTY and top != "ddpm_cli" and top not in sys.stdlib_module_names:
            assert top in THIRD_PARTY[mine], f"{path}:{line}: {name}"


def test_modules_import_one_another_in_no_circle() -> None:
    """Within a unit too. What is imported for type checkers alone counts as well."""
    modules = {".".join(("ddpm_cli", *f.relative_to(PACKAGE).with_suffix("").parts)): f for f in FILES}
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        wanted = {target for _, target in imports(path)}
        edges[name] = {m for t in wanted for m in (t, t.rpartition(".")[0]) if m in modules and m != name}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in modules:
        visit(name, ())


@pytest.mark.parametrize("path", [f for f in FILES if unit(f) != "console"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_console_prints(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
