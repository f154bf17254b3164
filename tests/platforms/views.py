"""Shows the modules of ddpm_cli another `os`, `sys`, ... than there is: other packages keep the real ones.

They are packages that run on every system, so what they do on another one is theirs to test; here they have to go on
working on this one.
"""

import builtins
from collections.abc import Callable, Collection, Mapping
from types import ModuleType
from typing import Any

OURS, PROBE = "ddpm_cli", "__probe__"
"""PROBE: the module name under which the tests of the simulation itself run."""


class View(ModuleType):
    """`real` without the attributes `absent` and with `other` values. Setting an attribute sets that of `real`."""

    def __init__(self, real: ModuleType, absent: Collection[str] = (), other: Mapping[str, Any] | None = None):
        own = object.__getattribute__(self, "__dict__")
        own.update(_real=real, _absent=frozenset(absent), _other=dict(other or {}))

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name in own["_absent"]:
            raise AttributeError(f"module {own['_real'].__name__!r} has no attribute {name!r} on the simulated system")
        return own["_other"][name] if name in own["_other"] else getattr(own["_real"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "__dict__")["_real"], name, value)


def show(views: Mapping[str, View], missing: Collection[str] = ()) -> None:
    """From now on, modules of ddpm_cli import `views` in place of the modules of that name, and none of `missing`."""
    original: Callable[..., Any] = builtins.__import__

    def simulated(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        ours = level == 0 and str((globals or {}).get("__name__", "")).partition(".")[0] in (OURS, PROBE)
        if ours and name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r} on the simulated system", name=name)
        found = original(name, globals, locals, fromlist, level)
        return views[name] if ours and name in views else found

    builtins.__import__ = simulated
