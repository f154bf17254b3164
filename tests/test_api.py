"""The Python API gives the same numbers as the commands, bit for bit."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import ddpm_cli
from ddpm_cli.build import bind, construct
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.diffusion.guidance import ClassifierFree
from ddpm_cli.diffusion.samplers import DDPM
from ddpm_cli.errors import CheckpointError, ConfigError
from ddpm_cli.sampling.animation import AnimationOptions
from ddpm_cli.sampling.bits import BitsOptions
from ddpm_cli.sampling.generator import Generator
from ddpm_cli.sampling.guidance import ClassifierGuidance
from ddpm_cli.sampling.options import GifOptions, SampleOptions
from ddpm_cli.sampling.request import Request

from .conftest import TINY, Cli

ROOT = Path(__file__).parents[1]
TRAIN = ["trainer.steps=2", "trainer.sample_every=0", "logger=none", "trainer.precision=fp32", *TINY]
CLASSIFIER = ["model=unet_classifier", "objective.noisy=false", "model.channels=8"]


@pytest.fixture
def run(cli: Cli) -> Generator:
    generator = ddpm_cli.train(["run_dir=run", *TRAIN])
    assert isinstance(generator, Generator)
    return generator


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, ddpm_cli; print(sorted({'torch', 'hydra', 'rich', 'numpy', 'omegaconf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_training_equals_the_command(run: Generator, cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=other", *TRAIN).code == 0
    name = "checkpoints/step_00000002.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    logs = [(tmp_path / r / "train.log").read_text().splitlines() for r in ("run", "other")]
    assert [line[24:] for line in logs[0]] == [line[24:] for line in logs[1]] != []
    again = ddpm_cli.train(["run_dir=run", *TRAIN, "trainer.steps=3"])
    assert again.facts["checkpoint_step"] == 3


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, []),
        ({"n": 5, "label": 3, "seed": 7}, ["n=5", "label=3", "seed=7"]),
        ({"n": 4, "sampler": DDPM(steps=3)}, ["n=4", "sampler=ddpm", "sampler.steps=3"]),
        (
            {"n": 3, "labels": [1, 2], "guidance": ClassifierFree(2.0)},
            ["n=3", "labels=[1,2]", "guidance=cfg", "guidance.scale=2"],
        ),
        ({"n": 3, "init": "a.png", "strength": 0.3}, ["n=3", "init=a.png", "strength=0.3"]),
        ({"n": 3, "between": [3, 17], "label": 1}, ["n=3", "between=[3,17]", "label=1"]),
        (
            {"n": 2, "label": 1, "guidance": ClassifierGuidance("classifier")},
            ["n=2", "label=1", "guidance=classifier", "guidance.classifier=classifier"],
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_samples_equal_those_of_the_command(
    settings: dict[str, Any], arguments: list[str], run: Generator, cli: Cli, tmp_path: Path
) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    if "guidance=classifier" in arguments:
        thin = [a for a in TRAIN if not a.startswith("model.")]
        assert cli("train", "run_dir=classifier", *CLASSIFIER, *thin).code == 0
    result = cli("sample", "ckpt=run", "out=command", *arguments)
    assert result.code == 0, result.err
    samples = run.sample(**settings)
    assert samples.save("python") == Path("python")
    files = sorted(p.relative_to(tmp_path / "command") for p in (tmp_path / "command").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "python") for p in (tmp_path / "python").rglob("*") if p.is_file())
    for file in files:
        one, other = ((tmp_path / name / file) for name in ("command", "python"))
        if file.name == "sample.json":
            texts = [json.loads(p.read_text()) for p in (one, other)]
            clocks = ("seconds", "images_per_second", "digest")  # the digest is of the whole text
            assert (
                len({json.dumps({k: v for k, v in t.items() if k not in clocks}, sort_keys=True) for t in texts}) == 1
            )
        else:
            assert one.read_bytes() == other.read_bytes(), file
    with np.load(tmp_path / "command/samples.npz") as kept:
        assert np.array_equal(kept["arr_0"], samples.pixels) and samples.pixels.dtype == np.uint8
        labels = samples.labels
        assert (labels is None) == ("arr_1" not in kept.files)
        assert labels is None or np.array_equal(kept["arr_1"], labels)
    assert len(samples) == len(samples.pixels) == settings.get("n", 64)
    assert samples._repr_png_() == (tmp_path / "command/grid.png").read_bytes()


def test_batches_and_frames_are_the_same_images(run: Generator) -> None:
    request = Request(n=5, seed=2, sampler=DDPM(steps=3))
    whole, parts = run.sample(request), list(run.draw(request, batch_size=2))
    assert [len(p) for p in parts] == [2, 2, 1] and [seed for p in parts for seed in p.seeds or []] == whole.seeds
    together = np.concatenate([p.pixels for p in parts])
    assert np.abs(together.astype(int) - whole.pixels).max() <= 1
    frames = list(run.frames(request))
    assert [round(f.t, 3) for f in frames] == sorted((round(f.t, 3) for f in frames), reverse=True)
    last = ((frames[-1].x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert np.array_equal(last.permute(0, 2, 3, 1).numpy(), whole.pixels)


@pytest.mark.parametrize("kind", ["denoise", "forward", "interpolate"])
def test_animations_equal_those_of_the_command(kind: str, run: Generator, cli: Cli, tmp_path: Path) -> None:
    between = kind == "interpolate"
    more = ["between=[3,17]", "label=1"] if between else []
    assert cli("gif", "ckpt=run", f"out=c/{kind}.gif", f"kind={kind}", "n=2", "frames=4", *more).code == 0
    settings = {"between": [3, 17], "label": 1} if between else {}
    animation = run.animate(kind=kind, n=2, frames=4, **settings)
    (tmp_path / "p").mkdir()
    path = animation.save(tmp_path / f"p/{kind}.gif")
    assert path.read_bytes() == (tmp_path / f"c/{kind}.gif").read_bytes()
    assert (tmp_path / "c/forward.png").exists() == (tmp_path / "p/forward.png").exists() == (kind == "forward")
    assert "data:image/gif;base64," in animation._repr_html_() and len(animation.frames) == 4
    with pytest.raises(ConfigError, match="format: must be gif or mp4"):
        animation.save(tmp_path / "x.webp")


def test_bits_equal_those_of_the_command(run: Generator, cli: Cli, tmp_path: Path) -> None:
    assert cli("eval", "ckpt=run", "out=e", "n=6", "bpd.steps=5", "bpd.ode_steps=2").code == 0
    from_command = json.loads((tmp_path / "e/eval.json").read_text())["bits_per_dim"]
    exact = ddpm_cli.load("run", precision="fp32")
    assert isinstance(exact, Generator)
    options, images = BitsOptions(steps=5, ode_steps=2), exact.real_images(n=6)
    bits = exact.bits(images, options)
    assert {name: value._asdict() for name, value in bits.values.items()} == from_command
    array = images.pixels.permute(0, 2, 3, 1).numpy()
    without = exact.bits(array, options)  # an array has no classes
    assert without.values.keys() == bits.values.keys()


def test_defaults_equal_those_of_the_yaml() -> None:
    """Options that are left out have the same value in Python and on the command line."""
    for command, options in (("sample", SampleOptions), ("gif", GifOptions)):
        composed = compose_command(command, ["out=x"])
        values = plain(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
        composed_options = construct(options, bind(options, values))
        n = 16 if command == "gif" else 64
        assert composed_options == options(out="x", n=n)
    assert GifOptions(out="x").animation == AnimationOptions()


def test_hydra_of_the_caller_is_left_as_it_is(run: Generator) -> None:
    """Composing the config of `train` must not clear Hydra's global state of the calling program."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf/sampler"), version_base="1.3"):
        ddpm_cli.train(["run_dir=run", *TRAIN])
        assert compose("ddim").steps == 50


def test_errors_are_exceptions_with_one_line(run: Generator, cli: Cli) -> None:
    wrong: list[tuple[type[Exception], Any, str]] = [
        (ConfigError, lambda: run.sample(label=77), "label: there is no class 77"),
        (ConfigError, lambda: run.sample(n=0), "n: must be positive"),
        (ConfigError, lambda: run.animate(kind="interpolate"), "kind: interpolate needs two ends"),
        (ConfigError, lambda: ddpm_cli.train(["modle=unet"]), "modle: is not a key; did you mean 'model'"),
        (ConfigError, lambda: ddpm_cli.train(["trainer.steps=many"]), "trainer.steps: must be a whole number"),
        (ConfigError, lambda: ddpm_cli.load("run", device="tpu"), "device: there is no device 'tpu'"),
        (CheckpointError, lambda: ddpm_cli.load("nowhere"), "nowhere: does not exist"),
    ]
    for kind, call, message in wrong:
        with pytest.raises(kind, match=f"^{re.escape(message)}") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_code_in_the_documentation_runs(cli: Cli, tmp_path: Path) -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 10
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert (tmp_path / "outputs/threes/grid.png").is_file() and (tmp_path / "outputs/between.gif").is_file()
    samples = names["samples"]
    assert samples.pixels.shape == (16, 8, 8, 1) and set(samples.labels.tolist()) == {3}
