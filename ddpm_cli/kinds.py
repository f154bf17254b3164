"""Whether an object can be built from options, and is of the kind that a type hint asks for."""

import inspect
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def is_kind(value: Any, hint: Any) -> bool:
    """Whether `value` is of the class, has the methods of the protocol, or can be called, as `hint` says.

    Hints of other sorts are not checked.
    """
    if get_origin(hint) in (Union, types.UnionType):
        return any(is_kind(value, choice) for choice in get_args(hint))
    if get_origin(hint) is Callable:
        return callable(value)
    if hint is Any or get_origin(hint) is not None or not isinstance(hint, type):
        return True
    if not getattr(hint, "_is_protocol", False):
        return isinstance(value, hint)
    names = {name for base in hint.__mro__ for name, member in vars(base).items() if inspect.isfunction(member)}
    return all(hasattr(value, name) for name in names if name == "__call__" or not name.startswith("_"))


def has_options(target: Any) -> bool:
    """Whether `target` can be called, and says with what: some classes that are written in C do not."""
    try:
        inspect.signature(target)
    except (TypeError, ValueError):
        return False
    return True


def described(hint: Any) -> str:
    """The type `hint` in words, for messages."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return described(args[0])
    if origin is Literal:
        return " or ".join(repr(a) if isinstance(a, str) else str(a) for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(described(a) for a in args)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    if hint in names:
        return names[hint]
    if origin is tuple and args and args[-1] is not Ellipsis:
        return f"a list of {len(args)} ({described(args[0])} each)"
    if origin is not None:
        return f"a list ({described(args[0])} each)" if args else "a list"
    if is_dataclass(hint):
        return f"a group of keys ({', '.join(f.name for f in fields(hint))})"
    return getattr(hint, "__name__", str(hint))
