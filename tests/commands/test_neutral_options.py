"""Options that change speed, memory or how often one looks, but not the result, in all families of models."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..conftest import Cli

FAMILIES = {
    "diffusion": ["model=unet_tiny", "model.channels=8"],
    "classifier": ["model=unet_classifier", "model.channels=8", "model.attention_resolutions=[]", "model.dropout=0"],
    "residual": ["model=resnet", "objective=classify_clean", "model.blocks=1", "trainer.precision=fp32"],
    "autoencoder": ["model=vae_conv", "model.prior=normal"],
}
STEPS = ["trainer.steps=4", "trainer.epochs=null", "trainer.batch_size=10", "trainer.warmup_steps=0"]
QUIET = ["logger=none", "trainer.sample_every=0", "trainer.eval_every=0", "trainer.samples=2", "trainer.best_by=null"]
LOOKING = {
    "log_every": ["trainer.log_every=1"],
    "save_every": ["trainer.save_every=1", "trainer.keep_last=2"],
    "save_seconds": ["trainer.save_seconds=0.001"],
    "eval_every": ["trainer.eval_every=1", "trainer.eval_images=4"],
    "max_seconds": ["trainer.max_seconds=1000"],
}


def weights(cli: Cli, folder: Path, family: str, *options: str) -> dict[str, Tensor]:
    result = cli("train", f"run_dir={folder.name}", *FAMILIES[family], *STEPS, *QUIET, *options)
    assert result.code == 0, result.err
    return load_file(folder / "checkpoints/step_00000004.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_looking_more_often_changes_no_bit(family: str, cli: Cli, tmp_path: Path) -> None:
    plain = weights(cli, tmp_path / "plain", family)
    for name, options in LOOKING.items():
        other = weights(cli, tmp_path / name, family, *options)
        assert plain.keys() == other.keys()
        assert all(torch.equal(plain[key], other[key]) for key in plain), name


@pytest.mark.parametrize("family", ["diffusion", "classifier", "autoencoder"])
@pytest.mark.parametrize("option", ["trainer.micro_batch_size=3", "trainer.gradient_checkpointing=true"])
def test_saving_memory_changes_only_the_last_digits(family: str, option: str, cli: Cli, tmp_path: Path) -> None:
    if "checkpointing" in option and family == "autoencoder":
        assert cli("train", "run_dir=x", *FAMILIES[family], *STEPS, *QUIET, option).code == 2
        return
    plain, other = weights(cli, tmp_path / "plain", family), weights(cli, tmp_path / "other", family, option)
    for name in plain:
        if name.startswith(("model.", "ema.")):
            assert torch.allclose(plain[name], other[name], atol=3e-4, rtol=1e-3), name


def test_batch_norm_over_parts_of_a_batch_is_said(cli: Cli, tmp_path: Path) -> None:
    arguments = [*FAMILIES["residual"], *STEPS, *QUIET, "trainer.micro_batch_size=3"]
    result = cli("train", "run_dir=r", *arguments)
    assert result.code == 0 and "batch norm takes its statistics from 3 images at a time instead of 10" in result.err


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_batch_size_of_sampling(size: int, cli: Cli, tmp_path: Path) -> None:
    weights(cli, tmp_path / "run", "diffusion")
    drawn = []
    for n, batch in (("a", 5), ("b", size)):
        arguments = ["ckpt=run", "n=5", f"batch_size={batch}", "sampler.steps=4", "dtype=float32", "precision=fp32"]
        assert cli("sample", *arguments, f"out={n}").code == 0
        import numpy as np

        drawn.append(np.load(tmp_path / n / "samples.npz")["arr_0"])
    assert abs(drawn[0] - drawn[1]).max() < 0.01 and drawn[0].dtype == "float32"


def test_tensorboard_shows_each_step_once(cli: Cli, tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint, and started again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = [
        *FAMILIES["diffusion"],
        *STEPS,
        "trainer.sample_every=0",
        "trainer.eval_every=0",
        "trainer.log_every=1",
    ]
    assert cli("train", "run_dir=r", *arguments).code == 0
    for path in (tmp_path / "r/checkpoints").iterdir():
        path.unlink()
    (tmp_path / "r/.saved").unlink()
    assert cli("train", "run_dir=r", *arguments).code == 0
    events = EventAccumulator(str(tmp_path / "r/tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    rows = [json.loads(line)["step"] for line in (tmp_path / "r/metrics.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3, 4]
