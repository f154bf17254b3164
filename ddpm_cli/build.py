"""Builds the object of a config node with a `_target_`, after binding every key to the target's signature.

Unknown keys, wrong types and values out of range are one-line errors that name the key. Unlike Hydra's `instantiate`,
it can require that a target is *defined* in certain packages, so that a config in a checkpoint cannot run other code.
"""

import difflib
import inspect
import os
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, partial, wraps
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError
from .kinds import described, has_options, is_kind
from .text import PathText, home
from .trust import ALIASES, module_at, shipped_targets

Node = Mapping[str, Any]


def build(node: Node, key: str, *, trust: Collection[str] | None = None, **given: Any) -> Any:
    """Build `node`, the config at `key` (plain dicts, lists and values).

    Args:
        node: has `_target_: package.module.Name`; with `_partial_: true` the result is a partial.
        key: the position of the node in the config, for messages ("model").
        trust: for a stored config, the user's packages, whose classes it may name beside those that conf/ names for
            `key`; None = any (only for a config that the user composed).
        given: arguments that the program supplies.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range, an unknown or untrusted target.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise ConfigError(f"{key}: has no _target_; choose one of the options of this config group")
    target = locate(str(node["_target_"]), key, trust)
    options = {k: v for k, v in node.items() if k not in ("_target_", "_partial_")}
    if node.get("_partial_"):
        if key != "optimizer":
            raise ConfigError(f"{key}._partial_: is not an option; only an optimizer gets its last argument later")
        return partial(target, **bind(target, options, key, trust=trust, partial=True, **given))
    return construct(target, bind(target, options, key, trust=trust, **given), key)


def construct(target: Callable[..., Any], arguments: Mapping[str, Any], key: str = "") -> Any:
    """target(**arguments). Raises ConfigError for a value out of range."""
    try:
        return target(**arguments)
    except ValueError as error:  # our classes start the message with the parameter: "steps: must be ..."
        raise ConfigError(f"{key}.{error}" if key else str(error)) from error


def options_of(cls: Callable[..., Any], config: Node) -> Any:
    """The options value of a command. No key is optional: the defaults of a command are in conf/, not in `cls`.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, a value out of range.
    """
    for field in fields(cls) if is_dataclass(cls) else ():
        if field.init and field.name not in config:
            raise ConfigError(f"{field.name}: is missing; set it")
    return construct(cls, bind(cls, config))


def bind(
    target: Callable[..., Any],
    options: Node,
    key: str = "",
    *,
    trust: Collection[str] | None = None,
    partial: bool = False,
    **given: Any,
) -> dict[str, Any]:
    """The keyword arguments for `target`: `options`, checked against its signature and converted, and `given`.

    Raises:
        ConfigError: an unknown or missing key, or a wrong type.
    """
    signature, hints, prefix = inspect.signature(target), _hints(target), f"{key}." if key else ""
    arguments = dict(given)
    for name, value in options.items():
        if name not in signature.parameters or name in given:
            if _accepts_any_keyword(signature) and name not in given and isinstance(name, str):
                arguments[name] = value
                continue
            options_left = [n for n in signature.parameters if n not in given and n != "self"]
            raise ConfigError(f"{prefix}{name}: is not an option{suggest(name, options_left)}")
        arguments[name] = _convert(value, hints.get(name, Any), f"{prefix}{name}", trust)
    if not partial:
        for name, p in signature.parameters.items():
            required = p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            if required and name not in arguments:
                raise ConfigError(f"{prefix}{name}: is missing; set it")
    return arguments


def locate(path: str, key: str, trust: Collection[str] | None) -> Callable[..., Any]:
    """The class or function at `path`. Of a user's package, it counts which module defines it, not its path.

    Args:
        key: the position of its node in the config.
        trust: as for `build`.

    Raises:
        ConfigError: it does not exist, may not be named there or cannot be called.
    """
    path = ALIASES.get(path, path)
    module_name, _, name = path.rpartition(".")
    package = module_name.split(".")[0]
    known = trust is None or path in shipped_targets(key)
    if not known and package not in (trust or ()):
        raise ConfigError(f"{key}._target_: {_refusal(path, package, key)}")
    try:
        target: Any = getattr(module_at(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}._target_: cannot find {path!r} ({error}); check the spelling and that the package is installed"
        ) from error
    defined_in = str(getattr(target, "__module__", "")).split(".")[0]
    if not known and (defined_in not in (trust or ()) or not isinstance(target, type)):
        raise ConfigError(f"{key}._target_: {path} is not a class that the package {package} defines; refused")
    if not has_options(target):
        raise ConfigError(f"{key}._target_: {path} cannot be called with options; name a class or a function")
    return target


def _refusal(path: str, package: str, key: str) -> str:
    """Why a stored config may not name `path` at `key`."""
    if package.isidentifier() and package not in ("ddpm_cli", "torch", "builtins"):
        return f"{path} is not in a trusted package; add trust=[{package}] if you trust its code"
    allowed = sorted(target.rpartition(".")[2] for target in shipped_targets(key))
    choices = f"; allowed: {', '.join(allowed)}" if allowed else ""
    return f"a stored config may not name {path} here{choices}"


def suggest(name: str, allowed: Sequence[str]) -> str:
    """`; did you mean 'steps'?` or `; allowed: ...`."""
    close = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; allowed: {', '.join(sorted(allowed))}" if allowed else ""


def _accepts_any_keyword(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())


def _hints(target: Any) -> dict[str, Any]:
    function = inspect.getattr_static(target, "__init__") if isinstance(target, type) else target
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # annotations of other packages may not resolve; then types are not checked
        return {}


def _convert(value: Any, hint: Any, key: str, trust: Collection[str] | None) -> Any:
    """`value` converted to the type `hint`. Raises ConfigError if that is not possible."""
    base = is_dataclass(hint) and inspect.isabstract(hint)  # the value must name a class that derives from it
    if isinstance(value, Mapping) and get_origin(hint) is not Mapping and ("_target_" in value or base):
        built = build(value, key, trust=trust)
        if not is_kind(built, hint):
            raise ConfigError(f"{key}._target_: {value['_target_']} cannot be used here; choose one of the group")
        return built
    if isinstance(value, Mapping) and isinstance(hint, type) and is_dataclass(hint):
        return construct(hint, bind(hint, value, key, trust=trust), key)
    if isinstance(value, str) and value == "???":
        raise ConfigError(f"{key}: is required; set {key}=VALUE")
    return fitted(value, hint, key)


def fitted(value: Any, hint: Any, key: str) -> Any:
    """A plain `value` converted to the type `hint`. Raises ConfigError, naming `key`, if that is not possible."""
    fits, result = _fit(value, hint)
    if not fits:
        raise ConfigError(f"{key}: must be {described(hint)}, got {value!r}")
    return result


F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F) -> F:
    """A function of the Python API that raises ConfigError, naming the parameter, for an argument of a wrong type.

    Literals, numbers, texts and lists are checked, and converted as in configs; other types are not.
    """
    signature, hints = inspect.signature(function), cache(lambda: _hints(function))

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if name in hints() and kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                bound.arguments[name] = fitted(_plain(value), hints()[name], name)
        return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


def check_fields(options: Any) -> None:
    """Check the types of a dataclass's fields, as `checked` does; for `__post_init__`, also of a frozen dataclass."""
    hints = _class_hints(options.__class__)
    for field in fields(options):
        if field.name in hints:
            value = fitted(_plain(getattr(options, field.name)), hints[field.name], field.name)
            object.__setattr__(options, field.name, value)


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's, paths as text; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_number = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_number else value


@cache
def _class_hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _fit(value: Any, hint: Any) -> tuple[bool, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, str):
        return True, value
    if origin is Annotated:
        fits, result = _fit(value, args[0])
        return fits, home(result) if fits and hint == PathText else result
    if origin in (Union, types.UnionType):
        for choice in sorted(args, key=lambda a: a is not type(value)):  # for int | float, 1 stays an int
            fits, result = _fit(value, choice)
            if fits:
                return True, result
        return False, value
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in args), value
    if hint is None or hint is type(None):
        return value is None, value
    if hint is float:
        number = isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)
        return number, float(value) if number else value
    if hint in (int, bool, str):
        return type(value) is hint, value
    if origin in (tuple, list) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return _fit_sequence(value, origin, args)
    if isinstance(value, Mapping):  # nodes with a _target_ are built before, so this is a plain dict
        return origin in (dict, Mapping) or hint in (dict, Mapping), value
    return is_kind(value, hint) and (not isinstance(value, str) or hint is str), value


def _fit_sequence(value: Any, origin: Any, args: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    fixed = origin is tuple and args and args[-1] is not Ellipsis
    if fixed and len(args) != len(value):
        return False, value
    hints = args if fixed else [args[0] if args else Any] * len(value)
    fitted = [_fit(v, h) for v, h in zip(value, hints, strict=True)]
    return all(ok for ok, _ in fitted), (list if origin is list else tuple)(v for _, v in fitted)


def check_seed(seed: int, key: str = "seed") -> None:
    """Raises ConfigError unless random generators accept the seed; image i uses seed + i."""
    if not 0 <= seed < 2**62:
        raise ConfigError(f"{key}: must be at least 0 and below 2^62, got {seed}")


def check_positive(**values: float) -> None:
    """Raises ConfigError for the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name}: must be positive, got {value}")
