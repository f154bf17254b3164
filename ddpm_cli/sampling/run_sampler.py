"""The sampler that a run itself was told to use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..build import ALIASES, build
from ..diffusion.samplers import Sampler
from ..diffusion.spacing import Spacing
from ..errors import ConfigError

SHIPPED = "ddpm_cli.diffusion.samplers"
RUN_SAMPLER = f"{__name__}.RunSampler"
SURE = {"sampler": "ddim", "guidance": "none"}
"""A choice of each group that needs nothing of the run's own."""


@dataclass(frozen=True)
class RunSampler:
    """The sampler in the config of the run that is sampled, with some of its options replaced. None = as the run.

    Args:
        steps, eta, clip, threshold, spacing, variance, noise_at_end: see the samplers, which have some of them each.
    """

    steps: int | None = None
    eta: float | None = None
    clip: bool | None = None
    threshold: float | None = None
    spacing: Spacing | None = None
    variance: str | None = None
    noise_at_end: bool | None = None

    @property
    def changes(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def node(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config node of the sampler.

        Args:
            config: of the run. Without a sampler, it is DDIM.
        """
        own = own_node(config, "sampler") or {"_target_": RUN_SAMPLER}
        if own["_target_"] == RUN_SAMPLER:  # trained with sampler=run
            kept = {k: v for k, v in own.items() if v is not None}
            own = kept | {"_target_": f"{SHIPPED}.ddim.DDIM"}
        return own | self.changes

    def of(self, config: Mapping[str, Any], trusted: Collection[str]) -> Sampler:
        """The sampler of a run.

        Args:
            config: of the run, a stranger's data: its sampler must be one of this program or of a trusted package.

        Raises:
            ConfigError: the run's sampler lacks an option, does not accept its value, or is not trusted.
        """
        node = self.node(config)
        packages = trusted_packages("sampler", str(node.get("_target_")), SHIPPED, trusted, "sampler=ddim")
        sampler: Sampler = built(node, "sampler", packages)
        return sampler


def own_node(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The node of a run's own sampler or guidance; empty if it has none.

    Raises:
        ConfigError: it is not a node with a `_target_`.
    """
    node = config.get(group)
    if node is None:
        return {}
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(
            f"{group}: the run's own {group} cannot be read; choose another one, for example {group}={SURE[group]}"
        )
    return dict(node)


def built(node: Mapping[str, Any], group: str, packages: Collection[str]) -> Any:
    """The object of such a node. Raises ConfigError if it cannot be built, whatever its values are."""
    try:
        return build(dict(node), group, trust=packages)
    except (TypeError, OverflowError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{group}: the run's own {group} cannot be built ({error}); "
            f"choose another one, for example {group}={SURE[group]}"
        ) from error


def trusted_packages(group: str, target: str, shipped: str, trusted: Collection[str], instead: str) -> set[str]:
    """The packages from which the `_target_` of a run's own sampler or guidance may be built.

    Args:
        group: of the config, "sampler" or "guidance".
        shipped: the module or package of this program that defines all those of the group.
        trusted: packages that the user trusts.
        instead: a choice without the run's own.

    Raises:
        ConfigError: the target is in none of them.
    """
    module = ALIASES.get(target, target).rpartition(".")[0]
    package, own = module.partition(".")[0], shipped.partition(".")[0]
    if f"{module}.".startswith(f"{shipped}.") or (package != own and package in trusted):
        return {own, *trusted}
    raise ConfigError(
        f"{group}: the run's own {group} {target} is not trusted; add trust=[{package or 'PACKAGE'}], "
        f"or choose another one, for example {instead}"
    )


def sampler_name(sampler: Sampler) -> str:
    """Its name as in sampler=NAME, which for the samplers of this program is the name of the file that defines it."""
    kind = type(sampler)
    return kind.__module__.rpartition(".")[2] if kind.__module__.startswith(f"{SHIPPED}.") else kind.__name__.lower()


def without_run(sampler: Sampler | RunSampler) -> Sampler:
    """The sampler where there is no run that could have one: sampler=run is DDIM there."""
    return sampler.of({}, ()) if isinstance(sampler, RunSampler) else sampler
