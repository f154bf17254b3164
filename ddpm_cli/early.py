"""Types of values, checked against the annotations in the program's own source before any of it is imported.

Importing a model or a dataset imports torch, which takes longer than all else that a mistake costs. What the source
alone does not tell is let through: `build` checks everything again.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .build import ALIASES, Node, build, fitted

PACKAGE = Path(__file__).parent
KNOWN: dict[str, Any] = {
    t.__name__: t for t in (int, float, bool, str, list, dict, tuple)
} | {"Any": Any, "Literal": Literal, "Sequence": Sequence, "Mapping": Mapping, "Callable": Callable}  # fmt: skip
WITHOUT_TORCH = ("ddpm_cli.training.plan.Plan",)
"""Classes that are built at once, so that values out of range are said early as well."""


def check_early(target: str, config: Node, key: str = "") -> None:
    """Check the options in `config` of the function or class at `target`, and those of the nodes in it.

    Args:
        target: package.module.name.
        key: where `config` stands in the whole, for messages.

    Raises:
        ConfigError: a value of a wrong type; in a node that needs no torch, also one out of range.
    """
    hints = _parameters(*_split(target))
    # a model takes facts from dataset and objective: what is wrong there is to be said under their names
    for name, value in sorted(config.items(), key=lambda item: item[0] == "model"):
        where = f"{key}.{name}" if key else str(name)
        if isinstance(value, Mapping) and "_target_" in value:
            inner = ALIASES.get(str(value["_target_"]), str(value["_target_"]))
            check_early(inner, {k: v for k, v in value.items() if k not in ("_target_", "_partial_")}, where)
            if inner in WITHOUT_TORCH:
                build(value, where)
        elif name in hints and value != "???":
            fitted(value, hints[name], where)


def _split(target: str) -> tuple[str, str]:
    module, _, name = target.rpartition(".")
    return module, name


def _parameters(module: str, name: str) -> dict[str, Any]:
    """Parameter -> type, as far as the source tells."""
    found = _definitions(module).get(name)
    if isinstance(found, ast.FunctionDef):
        return dict(_evaluated(module, [*found.args.args, *found.args.kwonlyargs]))
    if isinstance(found, ast.ClassDef):
        made = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if made is not None:
            return dict(_evaluated(module, [*made.args.args, *made.args.kwonlyargs]))
        inherited = [_parameters(module, base.id) for base in reversed(found.bases) if isinstance(base, ast.Name)]
        merged = {key: hint for hints in inherited for key, hint in hints.items()}
        if not any("dataclass" in ast.unparse(d) for d in found.decorator_list):
            return merged
        return merged | dict(_evaluated(module, [n for n in found.body if isinstance(n, ast.AnnAssign)]))
    return _parameters(*found) if isinstance(found, tuple) else {}


def _evaluated(module: str, named: Sequence[ast.arg | ast.AnnAssign]) -> Iterator[tuple[str, Any]]:
    for node in named:
        name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
        if node.annotation is not None:
            try:
                yield name, _value(module, node.annotation)
            except (NameError, TypeError):  # a class of torch or of ours, a variable of the class
                yield name, Any


def _value(module: str, expression: ast.expr) -> Any:
    """A type in the names that `module` has for types. Raises NameError for one that is not plain."""
    code = compile(ast.Expression(expression), module, "eval")
    return eval(code, {"__builtins__": {}}, _Names(module))


class _Names(dict[str, Any]):
    """The plain types, and the module's own or imported names for what is made of them."""

    def __init__(self, module: str):
        super().__init__(KNOWN)
        self.module = module

    def __missing__(self, name: str) -> Any:
        found = _definitions(self.module).get(name)
        if isinstance(found, tuple):
            return _Names(found[0])[found[1]]
        if isinstance(found, ast.expr):
            return _value(self.module, found)
        raise KeyError(name)


@cache
def _definitions(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef | ast.expr | tuple[str, str]]:
    """What a module of this package defines, and (module, name) of what it imports from another; empty for others."""
    first, *rest = module.split(".")
    base = PACKAGE.joinpath(*rest)
    file = next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)
    if first != PACKAGE.name or file is None:
        return {}
    package = [first, *rest] if file.name == "__init__.py" else [first, *rest[:-1]]
    found: dict[str, ast.FunctionDef | ast.ClassDef | ast.expr | tuple[str, str]] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - node.level + 1]
            home = ".".join([*above, *([node.module] if node.module else [])])
            found |= {alias.asname or alias.name: (home, alias.name) for alias in node.names}
    return found
