"""Building objects from config nodes: every key is bound to the signature, every error names its key."""

from typing import Any

import pytest

from ddpm_cli.build import bind, build
from ddpm_cli.diffusion.samplers import DDIM
from ddpm_cli.errors import ConfigError
from ddpm_cli.objectives.denoising import Denoising

DDIM_NODE = {"_target_": "ddpm_cli.diffusion.samplers.ddim.DDIM", "steps": 10, "eta": 0}


def test_a_node_is_built() -> None:
    assert build(DDIM_NODE, "sampler") == DDIM(steps=10, eta=0.0)


def test_nested_nodes_are_built() -> None:
    node = {
        "_target_": "ddpm_cli.objectives.denoising.Denoising",
        "target": {"_target_": "ddpm_cli.diffusion.target.V"},
    }
    objective = build(node, "objective")
    assert isinstance(objective, Denoising) and type(objective.target).__name__ == "V"


def test_a_partial_takes_the_other_arguments_later() -> None:
    import torch

    make = build({"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.5, "betas": [0.8, 0.9]}, "optimizer")
    group = make([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert group["lr"] == 0.5 and tuple(group["betas"]) == (0.8, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, r"^sampler.stepz: is not an option; did you mean 'steps'\?$"),
        ({"nonsense": 3}, r"^sampler.nonsense: is not an option; allowed: clip, eta, spacing, steps, threshold$"),
        ({"steps": "many"}, r"^sampler.steps: must be a whole number or null, got 'many'$"),
        ({"steps": 2.5}, r"^sampler.steps: must be a whole number or null, got 2.5$"),
        ({"clip": 1}, r"^sampler.clip: must be true or false, got 1$"),
        ({"eta": True}, r"^sampler.eta: must be a number, got True$"),
        ({"spacing": "log"}, r"^sampler.spacing: must be 'auto' or 'trailing' or .*, got 'log'$"),
        ({"eta": 2.0}, r"^sampler.eta: must be between 0"),
        ({"steps": "???"}, r"^sampler.steps: is required; set sampler.steps=VALUE$"),
        ({"_target_": "ddpm_cli.diffusion.samplers.ddim.DDIMM"}, r"^sampler._target_: cannot find "),
        ({"_target_": "no_such_package.Thing"}, r"^sampler._target_: cannot find "),
    ],
)
def test_errors_name_the_key(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DDIM_NODE | change, "sampler")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^objective.target: is missing; set it$"):
        build({"_target_": "ddpm_cli.objectives.denoising.Denoising"}, "objective")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.optim.Adam",
        "ddpm_cli.files.write_json",
        "ddpm_cli.data.images.Tensor",
        "ddpm_cli.data.order.count",
    ],
)
def test_a_checkpoint_cannot_name_other_code(target: str) -> None:
    """The module that defines the object decides, not the path, so names imported into our modules are refused too."""
    with pytest.raises(ConfigError, match="refused|trust=|may not name"):
        build({"_target_": target}, "model", trust={"ddpm_cli"})


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("model", "torch.optim.Adam"),
        ("optimizer", "torch.optim.LBFGS"),
        ("sampler", "ddpm_cli.models.unet.UNet"),
        ("objective.target", "ddpm_cli.objectives.weighting.Simple"),
        ("trainer", "ddpm_cli.files.write_json"),
    ],
)
def test_a_checkpoint_names_only_what_conf_names_in_the_same_place(key: str, target: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}._target_: a stored config may not name {target} here"):
        build({"_target_": target}, key, trust=())


def test_trust_admits_a_named_package() -> None:
    node = {"_target_": "torch.nn.Identity"}
    assert type(build(node, "model", trust={"ddpm_cli", "torch"})).__name__ == "Identity"


def test_bind_checks_plain_functions() -> None:
    def command(config: dict, *, n: int, out: str | None) -> None: ...  # type: ignore[type-arg]

    assert bind(command, {"n": 3, "out": None}, config={}) == {"n": 3, "out": None, "config": {}}
    with pytest.raises(ConfigError, match=r"^n: must be a whole number, got '3'$"):
        bind(command, {"n": "3", "out": None}, config={})
    with pytest.raises(ConfigError, match=r"^m: is not an option; allowed: n, out$"):
        bind(command, {"n": 3, "m": 1, "out": None}, config={})


def test_a_key_that_is_a_number_is_no_option() -> None:
    node: dict[Any, Any] = {"_target_": "ddpm_cli.diffusion.samplers.ddim.DDIM", 1: True}
    with pytest.raises(ConfigError, match=r"^sampler\.1: is not an option"):
        build(node, "sampler")


def test_a_class_without_a_signature_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^guidance\._target_: collections.OrderedDict cannot be called with options"
    ):
        build({"_target_": "collections.OrderedDict"}, "guidance")
