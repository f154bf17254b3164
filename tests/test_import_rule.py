"""The import rule: an ordered list ranks every unit, and a file imports only from its own unit or from later ones."""

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
    "bench | evaluation | verification",
    "training",
    "sampling",
    "runs",
    "render | objectives",
    "hardware | diffusion | models | data | metrics",
    "early",
    "build",
    "ours",
    "locks",
    "errors | files | progress | signals",
    "kinds | text | trust",
)
"""Each unit may import the units in later lines. Units joined by | may not import each other."""
RANK = {unit: rank for rank, units in enumerate(ORDER) for unit in units.split(" | ")}
ABOVE_CONSOLE = {"__main__", "cli", "__init__", "config", "commands", "console"}
THIRD_PARTY = {"diffusion": {"torch"}, "objectives": {"torch"}, "models": {"torch"}}
"""The only third-party packages that these units may import."""
ONLY_IN = {
    "hydra": {"cli", "config", "commands"},
    "omegaconf": {"cli", "config", "commands"},
    "rich": {"console"},
    "imageio": {"render"},
}


def unit(path: Path) -> str:
    """The folder or top-level module of a file."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and absolute name of every import, at the top of the file or within a function."""
    names: list[tuple[int, str]] = []
    package = ["ddpm_cli", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            names += [(node.lineno, _absolute(text, package)) for text in _texts(node.args[:1])]
    return names


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _texts(arguments: list[ast.expr]) -> list[str]:
    """The literal strings among the arguments; an f-string with its beginning."""
    parts = [a.values[0] if isinstance(a, ast.JoinedStr) and a.values else a for a in arguments]
    return [p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)]


def _absolute(name: str, package: list[str]) -> str:
    """`name`, which begins with a dot for each folder up."""
    level = len(name) - len(name.lstrip("."))
    return ".".join([*package[: len(package) - level + 1], name[level:]]) if level else name


def ours(path: Path) -> list[tuple[int, str]]:
    """Line and unit of every import from this package."""
    names = [(line, name.split(".")) for line, name in imports(path)]
    return [(line, parts[1] if len(parts) > 1 else "__init__") for line, parts in names if parts[0] == "ddpm_cli"]


def test_every_module_has_a_rank() -> None:
    assert {unit(f) for f in FILES} == RANK.keys()
    assert any(name.split(".")[0] == "torch" for f in FILES for _, name in imports(f))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_imported_from_above(path: Path) -> None:
    own = unit(path)
    for line, other in ours(path):
        assert other == own or RANK[own] < RANK[other], f"{path}:{line}: {own} may not import {other}"
        assert other != "console" or own in ABOVE_CONSOLE, f"{path}:{line}: only commands may use the console"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_are_imported_only_by_their_units(path: Path) -> None:
    own = unit(path)
    for line, name in imports(path):
        top = name.split(".")[0]
        if top in ONLY_IN:
            assert own in ONLY_IN[top], f"{path}:{line}: {name} may only be imported in {sorted(ONLY_IN[top])}"
        if own in THIRD_PARTY and top != "ddpm_cli" and top not in sys.stdlib_module_names:
            assert top in THIRD_PARTY[own], f"{path}:{line}: {name}"


def test_there_are_no_circular_imports() -> None:
    """Not within a unit either, and imports for type checkers count as well."""
    dotted = (".".join(("ddpm_cli", *f.relative_to(PACKAGE).with_suffix("").parts)) for f in FILES)
    modules = dict(zip((name.removesuffix(".__init__") for name in dotted), FILES, strict=True))
    edges: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = {target if target in modules else target.rpartition(".")[0] for _, target in imports(path)}
        edges[name] = {target for target in targets if target in modules and target != name}
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
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path}:{node.lineno}"
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr")), path
