"""Every YAML file composes and trains one step on the CPU. They are found by glob, so none can be forgotten."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ddpm_cli.config.shipped import commands, conf_dir
from ddpm_cli.data.images import Images
from ddpm_cli.data.source import Source, Split

from ..conftest import TINY, Cli
from ..runs.test_loggers import Package

CHOICES = sorted(
    (p.parent.name, p.stem)
    for p in conf_dir().glob("*/*.yaml")
    if p.parent.name != "hydra" and p.parents[1] == conf_dir()
)


def generated(source: Source, split: Split, progress: object = None) -> Images:
    """Random images with the size, channels and classes of the YAML file."""
    n, classes = 16, 3 if source.classes is None else source.classes
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, source.channels, *source.height_width), generator=g, dtype=torch.uint8)
    labels = torch.arange(n) % max(classes, 1)
    return Images(pixels, labels, tuple(f"class {i}" for i in range(classes)), source.flip)


@pytest.fixture(autouse=True)
def _no_real_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_subclasses(kind: type[Source]) -> list[type[Source]]:
        return [kind, *(k for sub in kind.__subclasses__() for k in with_subclasses(sub))]

    import ddpm_cli.data.celeba
    import ddpm_cli.data.digits
    import ddpm_cli.data.image_folder
    import ddpm_cli.data.torchvision_sets  # noqa: F401

    for kind in with_subclasses(Source)[1:]:
        monkeypatch.setattr(kind, "load", generated)
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, Package(name))


def test_the_glob_finds_the_groups() -> None:
    groups = {group for group, _ in CHOICES}
    assert groups == {
        "dataset",
        "experiment",
        "guidance",
        "logger",
        "model",
        "objective",
        "optimizer",
        "sampler",
        "schedule",
        "times",
        "trainer",
        "weighting",
        "what",
    }


FLOOR = "objective.floor=0.001"
"""Without it, k-means on 16 images may give degenerate clusters; whether it does depends on rounding."""

TOGETHER = {
    ("schedule", "flow"): ["objective=flow"],
    ("schedule", "edm"): ["objective=edm"],
    ("objective", "classify"): ["model=unet_classifier"],
    ("objective", "classify_clean"): ["model=resnet"],
    ("trainer", "classifier"): ["model=resnet"],
    ("objective", "elbo"): ["model=vae"],
    ("objective", "elbo_gaussian"): ["model=vae"],
    ("objective", "em"): ["model=gmm", "model.components=2", "model.dimensions=4", FLOOR],
    ("model", "gmm"): ["model.components=2", "model.dimensions=4", FLOOR],
    ("model", "unet_tutorial"): ["dataset.size=28"],
    ("experiment", "annotated_celeba"): ["model.attention=[false,true]"],
    ("experiment", "annotated_mnist"): ["model.attention=[false,true]"],
}
"""Choices that only work together with others."""


def has(config: dict[str, Any], argument: str) -> bool:
    """Whether the config has the key of `argument`: not every network has `multipliers`, for example."""
    group, _, name = argument.partition("=")[0].partition(".")
    return name in config[group]


@pytest.mark.parametrize(("group", "choice"), [c for c in CHOICES if c[0] not in ("guidance", "what")], ids=lambda v: v)
def test_every_yaml_trains_a_step_and_draws(group: str, choice: str, cli: Cli, tmp_path: Path) -> None:
    chosen = [f"{group}={choice}", *TOGETHER.get((group, choice), [])]
    config = yaml.safe_load(composed(cli, *chosen))
    thin = [a for a in TINY if not (group == "model" and "multipliers" in a) and has(config, a)]
    once = [
        "trainer.steps=1",
        "trainer.epochs=null",
        "trainer.sample_every=1",
        "trainer.eval_every=1",
        "trainer.max_seconds=null",
        "sampler.steps=2",
    ]
    result = cli("train", *chosen, "run_dir=run", *thin, *once)
    assert result.code == 0, result.err
    draws = "Classify" not in config["objective"]["_target_"]
    assert (tmp_path / "run/samples/step_00000001.png").is_file() == draws
    assert len(list((tmp_path / "run/checkpoints").glob("*.safetensors"))) == 1


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda v: v)
def test_every_yaml_starts_with_a_description(group: str, choice: str) -> None:
    lines = (conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()
    about = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert about.startswith("# ") and len(about) > 10


@pytest.mark.parametrize("command", sorted(commands()))
@pytest.mark.parametrize(("flag", "shows"), [("--help", "trust "), ("--cfg=job", "trust: []")])
def test_hydras_flags(command: str, flag: str, shows: str, cli: Cli) -> None:
    result = cli(command, flag)
    assert result.code == 0 and shows in result.out
    assert not result.err


def test_help_names_groups_and_explains_keys(cli: Cli) -> None:
    out = cli("train", "--help", "dataset=cifar10").out
    assert "*cifar10" in out and "image_folder" in out and "*auto" in out
    line = next(line for line in out.splitlines() if "trainer.epochs" in line)
    assert "null" in line and "when set, replaces steps" in line  # the comment in the YAML
    assert "experiment" not in cli("gif", "--help").out and "*run" in cli("gif", "--help").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["schedule=flow"], "objective: v needs alpha^2 + sigma^2 = 1"),
        (["schedule=edm"], "objective: v needs"),
        (["schedule=flow", "objective=epsilon"], "objective: epsilon cannot recover x0 at t = 1"),
        (["schedule.zero_terminal_snr=true", "objective=epsilon"], "objective: epsilon cannot recover x0"),
        (["objective.learned_variance=true"], "sampler: this model has a learned variance"),
        (["sampler=ddpm", "sampler.variance=learned"], "sampler.variance: this model has no learned variance"),
        (["objective=flow", "sampler.spacing=karras"], "sampler.spacing: karras needs some signal at t = 1"),
        (["objective=flow", "sampler=ddpm"], "sampler.steps: this schedule has no steps of its own"),
        (["objective=classify"], "objective: classify needs a classifier"),
        (["model=resnet", "objective=classify"], "objective.noisy: this network does not take the noise level"),
        (["model=unet_tutorial"], "model.image_size: must be 28 for this network, got 8; set dataset.size=28"),
        (
            ["model=unet_tutorial", "dataset.size=28", "objective=flow"],
            "model.n_steps: this network needs a schedule with steps",
        ),
        (
            ["model=unet_tutorial", "dataset.size=28", "objective=edm"],
            "model.n_steps: this network needs a schedule with steps",
        ),
        (
            ["model=unet_tutorial", "dataset.size=28", "model.n_steps=9"],
            "model.n_steps: this network has 9 time steps",
        ),
        (["model=unet_annotated", "model.attention=[true]"], "model.attention: must be one flag for each of the 4"),
        (
            ["objective=x0", "+objective.zero_to_one=true"],
            "objective.zero_to_one: only works when predicting the noise",
        ),
        (["objective=epsilon", "objective.zero_to_one=true", "schedule=edm"], "objective.zero_to_one: needs alpha^2"),
        (["model=unet_classifier", "objective=v"], "objective: a classifier cannot denoise"),
        (["model=resnet", "objective=v"], "objective: a classifier cannot denoise"),
        (["model=densenet", "dataset.classes=0"], "model.num_classes: this dataset has no classes"),
        (["model=googlenet", "model.activation=step"], "model.activation: must be 'relu' or"),
        (["trainer.lr_decay=steps"], "trainer.lr_milestones: needs positive epochs"),
        (["model=unet_classifier", "dataset.classes=0"], "model.num_classes: this dataset has no classes"),
    ],
)
def test_incompatible_choices_are_a_one_line_error(arguments: list[str], says: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "run_dir=run", *arguments)
    assert result.code == 2 and says in result.err
    assert len(result.err.splitlines()) == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["objective=x0", "schedule=flow", "weighting=snr", "times=logit_normal", "sampler=unipc"],
        ["objective=v", "schedule.zero_terminal_snr=true", "weighting=p2", "times=importance", "sampler=heun"],
        ["objective=edm", "sampler=dpmpp_2m_sde", "model.self_condition=true", "model.scale_shift_norm=true"],
        ["objective=edm", "schedule=linear", "sampler=dpmpp_2m", "sampler.threshold=0.995", "weighting=min_snr"],
        ["objective=epsilon", "schedule=edm", "sampler=euler", "sampler.s_churn=5", "times=lognormal"],
        ["objective=flow", "schedule.shift=3", "times=stratified", "sampler=ddpm"],
        ["objective=epsilon", "schedule=scaled_linear", "objective.learned_variance=true", "sampler=ddpm",
         "sampler.variance=learned", "trainer.micro_batch_size=2"],
        ["objective=epsilon", "objective.zero_to_one=true", "objective.learned_variance=true", "sampler=ddpm",
         "sampler.variance=learned", "sampler.noise_at_end=true"],
    ],
    ids=lambda a: " ".join(a[:2]),
)  # fmt: skip
def test_compatible_choices_train_and_resume(arguments: list[str], cli: Cli, tmp_path: Path) -> None:
    """Four steps equal two steps and two resumed steps, bit for bit, including the state of the objective."""
    short = ["sampler.steps=3", "trainer.eval_every=2", "trainer.sample_every=2", "trainer.save_every=2", *TINY]
    for run_dir, stops in (("whole", (4,)), ("halves", (2, 4))):
        for steps in stops:
            result = cli("train", f"run_dir={run_dir}", f"trainer.steps={steps}", *arguments, *short)
            assert result.code == 0, result.err
    file = "checkpoints/step_00000004.safetensors"
    assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "halves" / file).read_bytes()


def composed(cli: Cli, *arguments: str) -> str:
    result = cli("train", "--cfg", "job", *arguments)
    assert result.code == 0, result.err
    return result.out


def test_a_dataset_picks_its_network_and_naming_one_wins(cli: Cli) -> None:
    assert "channels: auto" in composed(cli, "dataset=cifar10")
    assert "channels: 128" in composed(cli, "dataset=cifar10", "model=unet")
    assert "channels: auto" in composed(cli, "dataset=fashion_mnist")
    assert "channels: 64" in composed(cli, "experiment=ddpm_cifar10", "model=unet_small")


def test_an_experiment_sets_all_and_the_command_line_wins(cli: Cli) -> None:
    text = composed(cli, "experiment=ddpm_cifar10")
    for line in (
        "name: cifar10",
        "steps: 800000",
        "variance: beta",
        "decay: 0.9999",
        "warmup_steps: 5000",
        "channels: 128",
    ):
        assert line in text
    assert "steps: 7" in composed(cli, "experiment=ddpm_cifar10", "trainer.steps=7")


def test_a_conf_folder_of_the_user_adds_and_shadows_files(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "schedule"
    folder.mkdir(parents=True)
    (folder / "linear.yaml").write_text("_target_: ddpm_cli.diffusion.schedule.LinearSchedule\nsteps: 77\n")
    (folder / "steep.yaml").write_text("_target_: my_schedules.Steep\nsteps: 5\n")
    (tmp_path / "my_schedules.py").write_text(
        "from ddpm_cli.diffusion.schedule import LinearSchedule\nclass Steep(LinearSchedule):\n    pass\n"
    )
    assert "steps: 77" in composed(cli, "schedule=linear")
    result = cli("train", "schedule=steep", "run_dir=run", "trainer.steps=1", "sampler.steps=2", *TINY)
    assert result.code == 0, result.err
    refused = cli("sample", "ckpt=run", "n=1", "sampler.steps=2", "out=s")
    assert refused.code == 2 and "trust=[my_schedules]" in refused.err
    assert not (tmp_path / "s").exists()
    allowed = cli("sample", "ckpt=run", "n=1", "sampler.steps=2", "out=s", "trust=[my_schedules]")
    assert allowed.code == 0, allowed.err


def test_config_dir_adds_choices(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "extra/sampler").mkdir(parents=True)
    (tmp_path / "extra/sampler/brief.yaml").write_text("_target_: ddpm_cli.diffusion.samplers.ddim.DDIM\nsteps: 3\n")
    assert "steps: 3" in composed(cli, "--config-dir", "extra", "sampler=brief")
