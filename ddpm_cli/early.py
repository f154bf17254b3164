"""Checks the types of config values against the annotations in the source, without importing the modules.

Importing a model or a dataset imports torch, which takes seconds. Values that the source alone cannot check are
accepted here; `build` checks everything again.
"""

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from .build import Node, build, fitted, suggest
from .errors import ConfigError
from .text import NameText, PathText
from .trust import ALIASES

PACKAGE = Path(__file__).parent
KNOWN: dict[str, Any] = {
    t.__name__: t for t in (int, float, bool, str, list, dict, tuple)
} | {
    "Any": Any, "Literal": Literal, "Sequence": Sequence, "Mapping": Mapping, "Callable": Callable,
    "PathText": PathText, "NameText": NameText,
}  # fmt: skip
RATE = "optimizer.lr"
ENDLESS = "sampler.s_tmax"
"""Where infinity has a meaning: EDM's sampler adds noise at every level."""
OPTIMIZERS = "torch.optim"
GIVEN = ("params",)
"""Parameters that the program supplies."""
WITHOUT_TORCH = ("ddpm_cli.training.plan.Plan",)
"""Classes that are also built early, so that values out of range are reported early too."""


def check_early(target: str, config: Node, key: str = "") -> None:
    """Check the options in `config` of the function or class at `target`, and those of the nodes in it.

    Args:
        target: package.module.name.
        key: the position of `config` in the whole config, for messages.

    Raises:
        ConfigError: a value has a wrong type or, in a node that does not need torch, is out of range.
    """
    hints, names = declared_types(target), _names(target)
    # the model last: it copies values of dataset and objective, whose errors must be reported under their own keys
    for name, value in sorted(config.items(), key=lambda item: item[0] == "model"):
        path = f"{key}.{name}" if key else str(name)
        if key and names is not None and name not in names:
            raise ConfigError(f"{path}: is not an option{suggest(str(name), [n for n in names if n not in GIVEN])}")
        if path == RATE:
            _check_rate(value)
        if isinstance(value, Mapping) and "_target_" in value:
            inner = ALIASES.get(str(value["_target_"]), str(value["_target_"]))
            check_early(inner, {k: v for k, v in value.items() if k not in ("_target_", "_partial_")}, path)
            if inner in WITHOUT_TORCH:
                build(value, path)
        elif name in hints and value != "???":
            fitted(value, hints[name], path)


def check_finite(value: Any, key: str = "") -> None:
    """Raises ConfigError for a number, also in a list or a group of keys, that is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value) and key != ENDLESS:
        raise ConfigError(f"{key}: must be a finite number, got {value}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_finite(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            check_finite(item, key)


def _check_rate(value: Any) -> None:
    """Raises ConfigError for a learning rate with which nothing is learned, which torch accepts or reports late."""
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ConfigError(f"{RATE}: must be a positive number, got {value!r}")


def _names(target: str) -> list[str] | None:
    """The options of the function or class at `target`; None if the source does not tell, or if it takes any."""
    module, _, name = ALIASES.get(target, target).rpartition(".")
    return _options(module, name)


def _options(module: str, name: str) -> list[str] | None:
    definition = _definitions(module).get(name)
    if isinstance(definition, tuple):
        return _options(*definition)
    function = definition
    if isinstance(definition, ast.ClassDef):
        function = next((n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if function is None:
            return _fields(module, definition)
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg or function.args.vararg:
        return None
    return [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs) if argument.arg != "self"]


def _fields(module: str, definition: ast.ClassDef) -> list[str] | None:
    """The fields of a dataclass; None for another class without `__init__`."""
    bases = [base for base in definition.bases if not ast.unparse(base).startswith(("Protocol", "Generic", "ABC"))]
    known = [_options(module, base.id) if isinstance(base, ast.Name) else None for base in bases]
    if None in known or not any("dataclass" in ast.unparse(d) for d in definition.decorator_list):
        return None
    own = [ast.unparse(n.target) for n in definition.body if isinstance(n, ast.AnnAssign)]
    return list(dict.fromkeys([*(name for names in known if names for name in names), *own]))


def declared_types(target: str) -> dict[str, Any]:
    """The types of the parameters of the function or class at `target`, as far as the source defines them."""
    module, _, name = ALIASES.get(target, target).rpartition(".")
    return _parameters(module, name)


def _parameters(module: str, name: str) -> dict[str, Any]:
    """Parameter -> type, as far as the source defines it."""
    definition = _definitions(module).get(name)
    if isinstance(definition, ast.FunctionDef):
        return dict(_evaluated(module, [*definition.args.args, *definition.args.kwonlyargs]))
    if isinstance(definition, ast.ClassDef):
        init = next((n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            return dict(_evaluated(module, [*init.args.args, *init.args.kwonlyargs]))
        inherited = [_parameters(module, base.id) for base in reversed(definition.bases) if isinstance(base, ast.Name)]
        merged = {key: hint for hints in inherited for key, hint in hints.items()}
        if not any("dataclass" in ast.unparse(d) for d in definition.decorator_list):
            return merged
        return merged | dict(_evaluated(module, [n for n in definition.body if isinstance(n, ast.AnnAssign)]))
    return _parameters(*definition) if isinstance(definition, tuple) else {}


def _evaluated(module: str, nodes: Sequence[ast.arg | ast.AnnAssign]) -> Iterator[tuple[str, Any]]:
    """(name, type) of annotated parameters or fields."""
    for node in nodes:
        name = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
        if node.annotation is not None:
            try:
                yield name, _value(module, node.annotation)
            except (NameError, TypeError):  # a class, or a ClassVar
                yield name, Any


def _value(module: str, expression: ast.expr) -> Any:
    """The type that an annotation in `module` means. Raises NameError unless it is made of plain types."""
    match expression:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _named(module, name)
        case ast.Subscript(value=of, slice=inside):
            return _value(module, of)[_value(module, inside)]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _value(module, left) | _value(module, right)
        case ast.Tuple(elts=parts):
            return tuple(_value(module, part) for part in parts)
        case ast.List(elts=parts):
            return [_value(module, part) for part in parts]
    raise NameError(ast.unparse(expression))


def _named(module: str, name: str) -> Any:
    """A plain type, or the combination of them that the module defines or imports under a name."""
    definition = KNOWN.get(name, _definitions(module).get(name))
    if isinstance(definition, tuple):
        return _named(*definition)
    if isinstance(definition, ast.expr):
        return _value(module, definition)
    if name in KNOWN:
        return definition
    raise NameError(name)


@cache
def _definitions(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef | ast.expr | tuple[str, str]]:
    """The definitions and, as (module, name), the imports from the same package of a module of this package or of an
    optimizer of torch; empty for others."""
    first, *rest = module.split(".")
    folder = _folder_of(module)
    base = PACKAGE.joinpath(*rest) if folder is None else folder.joinpath(*rest)
    file = next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)
    if (first != PACKAGE.name and folder is None) or file is None:
        return {}
    package = [first, *rest] if file.name == "__init__.py" else [first, *rest[:-1]]
    definitions: dict[str, ast.FunctionDef | ast.ClassDef | ast.expr | tuple[str, str]] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            definitions[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OPTIMIZERS) and not node.level:
            definitions |= {alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            parents = package[: len(package) - node.level + 1]
            source = ".".join([*parents, *([node.module] if node.module else [])])
            definitions |= {alias.asname or alias.name: (source, alias.name) for alias in node.names}
    return definitions


@cache
def _folder_of(module: str) -> Path | None:
    """The folder of torch, for the modules of its optimizers, without importing it."""
    if f"{module}.".startswith(f"{OPTIMIZERS}.") and (found := find_spec("torch")) is not None and found.origin:
        return Path(found.origin).parent
    return None
