"""The sampler or guidance in the config of a run, which is a stranger's data."""

from collections.abc import Collection, Mapping
from typing import Any

from ..build import build
from ..errors import ConfigError
from ..trust import ALIASES

INSTEAD = {"sampler": "sampler=ddim", "guidance": "guidance=none"}
"""A choice of each group that needs nothing of the run's own."""


def own_node(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The run's own node of "sampler" or "guidance"; empty if it has none.

    Raises:
        ConfigError: it is not a node with a `_target_`.
    """
    node = config.get(group)
    if node is None:
        return {}
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise _refused(group, "cannot be read")
    return dict(node)


def build_own(group: str, node: Mapping[str, Any], shipped: str, trusted: Collection[str]) -> Any:
    """The sampler or guidance that `node` describes.

    Args:
        shipped: the module or package of this program that defines all those of the group.
        trusted: packages that the user trusts.

    Raises:
        ConfigError: its `_target_` is in none of them, or it cannot be built, whatever its values are.
    """
    target = str(node["_target_"])
    module = ALIASES.get(target, target).rpartition(".")[0]
    package, own = module.partition(".")[0], shipped.partition(".")[0]
    if not f"{module}.".startswith(f"{shipped}.") and (package == own or package not in trusted):
        raise _refused(group, f"{target} is not trusted", f"add trust=[{package or 'PACKAGE'}], or ")
    try:
        return build(node, group, trust=trusted)
    except (TypeError, OverflowError) as error:
        raise _refused(group, f"cannot be built ({error})") from error


def _refused(group: str, problem: str, advice: str = "") -> ConfigError:
    return ConfigError(
        f"{group}: the run's own {group} {problem}; {advice}choose another one, for example {INSTEAD[group]}"
    )
