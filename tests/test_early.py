"""Wrong types are reported from the source alone, with the same message as when building."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from ddpm_cli.build import build
from ddpm_cli.early import _names, check_early
from ddpm_cli.errors import ConfigError
from ddpm_cli.trust import conf_dir

WRONG = [
    ("ddpm_cli.training.plan.Plan", "steps", "many"),
    ("ddpm_cli.training.plan.Plan", "steps", 2.5),
    ("ddpm_cli.training.plan.Plan", "max_seconds", "long"),
    ("ddpm_cli.training.plan.Plan", "precision", "fp8"),  # a name for a Literal
    ("ddpm_cli.training.plan.Plan", "log_every", "minute"),  # a union with one
    ("ddpm_cli.training.plan.Plan", "lr_milestones", 3),
    ("ddpm_cli.diffusion.samplers.heun.Heun", "spacing", "wide"),  # inherited from a base that imports its Literal
    ("ddpm_cli.diffusion.samplers.heun.Heun", "steps", "few"),
    ("ddpm_cli.diffusion.samplers.heun.Heun", "s_churn", None),  # a field of the class in between
    ("ddpm_cli.data.digits.Digits", "size", [1, 2, 3]),
    ("ddpm_cli.data.digits.Digits", "flip", "yes"),
    ("ddpm_cli.data.digits.Digits", "val_fraction", None),  # the base allows it, the class does not
    ("ddpm_cli.models.unet.UNet", "multipliers", [1, "two"]),
    ("ddpm_cli.objectives.denoising.Denoising", "label_dropout", "some"),
]


@pytest.mark.parametrize(("target", "name", "value"), WRONG)
def test_a_wrong_type_has_the_same_message_as_when_building(target: str, name: str, value: Any) -> None:
    node = {"_target_": target, name: value}
    with pytest.raises(ConfigError) as early:
        check_early("ddpm_cli.commands.train.Options", {"node": node})
    with pytest.raises(ConfigError) as built:
        build(node, "node")
    assert str(early.value) == str(built.value) and str(early.value).startswith(f"node.{name}: must be ")


def test_the_keys_of_a_command() -> None:
    with pytest.raises(ConfigError, match="^seed: must be a whole number, got 'x'$"):
        check_early("ddpm_cli.commands.train.Options", {"seed": "x"})


def test_values_out_of_range_in_nodes_that_do_not_need_torch() -> None:
    plan = {"_target_": "ddpm_cli.training.plan.Plan", "batch_size": 0}
    with pytest.raises(ConfigError, match="^trainer.batch_size: must be at least 1, got 0$"):
        check_early("ddpm_cli.commands.train.Options", {"trainer": plan})
    ema = {"_target_": "ddpm_cli.training.plan.Decay", "decay": 2}
    with pytest.raises(ConfigError, match="^trainer.ema.decay: must be in"):
        check_early("ddpm_cli.commands.train.Options", {"trainer": plan | {"batch_size": 1, "ema": ema}})


def test_nested_nodes() -> None:
    target = {"_target_": "ddpm_cli.objectives.weighting.MinSNR", "gamma": "five"}
    objective = {"_target_": "ddpm_cli.objectives.denoising.Denoising", "weighting": target}
    with pytest.raises(ConfigError, match="^objective.weighting.gamma: must be a number"):
        check_early("ddpm_cli.commands.train.Options", {"objective": objective})


def test_an_interpolated_value_is_reported_under_the_key_that_it_comes_from() -> None:
    """`model.image_size: ${dataset.size}` comes first in the config."""
    model = {"_target_": "ddpm_cli.models.unet.UNet", "image_size": "big"}
    data = {"_target_": "ddpm_cli.data.digits.Digits", "size": "big"}
    with pytest.raises(ConfigError, match=r"^dataset\.size: "):
        check_early("ddpm_cli.commands.train.Options", {"model": model, "dataset": data})


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("torch.optim.Adam", "lr"),  # the type is one of torch
        ("my_package.Thing", "size"),
        ("ddpm_cli.nowhere.Thing", "size"),
        ("ddpm_cli.models.unet.NoSuchNet", "channels"),
        ("ddpm_cli.objectives.denoising.Denoising", "target"),  # its type is a class
        ("nothing", "size"),
        ("ddpm_cli.diffusion.guidance.ByClassifier", "classifier"),  # a path of older versions
    ],
)
def test_values_that_the_source_cannot_check_are_accepted(target: str, name: str) -> None:
    check_early("ddpm_cli.commands.train.Options", {"node": {"_target_": target, name: "x"}})


@pytest.mark.parametrize(
    ("target", "name", "meant"),
    [
        ("ddpm_cli.models.unet.UNet", "chanels", "channels"),
        ("ddpm_cli.diffusion.schedule.LinearSchedule", "stepz", "steps"),
        ("ddpm_cli.diffusion.samplers.heun.Heun", "s_chrun", "s_churn"),  # a field of the class in between
        ("ddpm_cli.training.muon.Muon", "momentums", "momentum"),
        ("torch.optim.SGD", "momentums", "momentum"),
    ],
)
def test_an_unknown_option_is_reported_as_when_building(target: str, name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"^node.{name}: is not an option; did you mean '{meant}'\?$"):
        check_early("ddpm_cli.commands.train.Options", {"node": {"_target_": target, name: 1}})


def test_every_shipped_option_is_known() -> None:
    """The source is read as Python reads it: no option of conf/ is refused."""
    for path in sorted(conf_dir().glob("*/*.yaml")):
        node = OmegaConf.to_container(OmegaConf.load(path))
        if isinstance(node, dict) and "_target_" in node:
            known = _names(str(node["_target_"]))
            assert known is None or {*node} - {"_target_", "_partial_", "defaults"} <= {*known}, path
