"""Wrong arguments of the Python API, which no config has checked, and what it leaves of the caller's process."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import ddpm_cli
from ddpm_cli.diffusion.samplers import DDIM
from ddpm_cli.errors import ConfigError, DdpmError
from ddpm_cli.sampling.bits import BitsOptions
from ddpm_cli.sampling.generator import Generator
from ddpm_cli.sampling.request import Request

from .conftest import TINY, Cli

TRAIN = ["trainer.steps=2", "trainer.sample_every=0", "logger=none", "trainer.precision=fp32", *TINY]
FEW = {"sampler": DDIM(steps=2)}
PICTURES = np.zeros((2, 8, 8, 1), np.uint8)


@pytest.fixture
def run(cli: Cli) -> Generator:
    generator = ddpm_cli.train(["run_dir=run", *TRAIN])
    assert isinstance(generator, Generator)
    return generator


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda run: run.sample(n="3"), "n"),
        (lambda run: run.sample(n=1.5), "n"),
        (lambda run: run.sample(n=None), "n"),
        (lambda run: run.sample(seed=1.5), "seed"),
        (lambda run: run.sample(3), "request"),
        (lambda run: run.sample(sampler="ddim"), "sampler"),
        (lambda run: run.sample(labels=5), "labels"),
        (lambda run: run.sample(labels="12"), "labels"),
        (lambda run: run.sample(label=True), "label"),
        (lambda run: run.sample(batch_size=0), "batch_size"),
        (lambda run: run.sample(batch_size=-1), "batch_size"),
        (lambda run: run.sample(compile="yes"), "compile"),
        (lambda run: run.sample(Request(n=1), n=2), "n"),
        (lambda run: run.frames(Request(n=1), seed=2), "seed"),
        (lambda run: next(run.draw(Request(n=1), batch_size=0)), "batch_size"),
        (lambda run: run.animate(spacing="x"), "spacing"),
        (lambda run: run.animate(frames=0), "frames"),
        (lambda run: run.real_images(split="x"), "split"),
        (lambda run: run.real_images(n=-1), "n"),
        (lambda run: run.bits(PICTURES.astype(np.float32)), "images"),
        (lambda run: run.bits(PICTURES.astype(bool)), "images"),
        (lambda run: run.bits(PICTURES[0]), "images"),
        (lambda run: run.bits(PICTURES[:0]), "images"),
        (lambda run: run.bits(PICTURES.transpose(0, 3, 1, 2)), "images"),
        (lambda run: run.bits(np.zeros((2, 16, 16, 1), np.uint8)), "images"),
        (lambda run: run.bits(PICTURES.tolist()), "images"),
        (lambda run: run.bits(PICTURES, seed=-1), "seed"),
        (lambda run: run.bits(PICTURES, batch_size=0), "batch_size"),
        (lambda run: BitsOptions(variance="x"), "variance"),  # type: ignore[arg-type]
        (lambda run: ddpm_cli.load("run", weights="foo"), "weights"),  # type: ignore[arg-type]
        (lambda run: ddpm_cli.load("run", weights=None), "weights"),  # type: ignore[arg-type]
        (lambda run: ddpm_cli.load("run", precision="fp16"), "precision"),  # type: ignore[arg-type]
        (lambda run: ddpm_cli.load("run", device=None), "device"),  # type: ignore[arg-type]
        (lambda run: ddpm_cli.load("run", trust="os"), "trust"),
        (lambda run: ddpm_cli.train("run_dir=other"), "overrides"),
        (lambda run: ddpm_cli.train([1]), "overrides"),  # type: ignore[list-item]
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[Any], Any], key: str, run: Generator) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        call(run)


def test_numbers_of_numpy_and_paths_are_fine(run: Generator) -> None:
    plain = run.sample(n=2, seed=3, label=1, **FEW)
    other = run.sample(n=np.int64(2), seed=np.uint8(3), label=np.int32(1), **FEW)
    assert np.array_equal(plain.pixels, other.pixels)
    assert ddpm_cli.load(Path("run")).path == run.path
    assert ddpm_cli.load("run", trust=("mine",)).trusted == {"mine"}


def test_derivatives_are_on_where_they_are_needed(run: Generator) -> None:
    options = BitsOptions(steps=3, ode_steps=1)
    expected = run.bits(PICTURES, options).values
    with torch.inference_mode():
        found = run.bits(PICTURES, options).values
    assert found == expected and "ode" in " ".join(expected)


def test_training_leaves_the_callers_process_as_it_was(cli: Cli, tmp_path: Path) -> None:
    random.seed(1)
    torch.manual_seed(2)
    expected = random.getstate(), torch.get_rng_state()
    torch.backends.cudnn.deterministic = False
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            first = ddpm_cli.train(["run_dir=one", *TRAIN])
        assert torch.get_default_dtype() == torch.float64 and not torch.backends.cudnn.deterministic
    finally:
        torch.set_default_dtype(torch.float32)
    assert random.getstate() == expected[0] and torch.equal(torch.get_rng_state(), expected[1])
    assert cli("train", "run_dir=two", *TRAIN).code == 0
    assert ddpm_cli.load("two").facts["checkpoint_sha256"] == first.facts["checkpoint_sha256"]


def test_two_trainings_at_once_do_not_mix_their_random_numbers(cli: Cli) -> None:
    arguments = [*TRAIN, "trainer.steps=6", "model.dropout=0.3"]
    alone = ddpm_cli.train(["run_dir=alone", *arguments]).facts["checkpoint_sha256"]
    found = {}

    def train(name: str) -> None:
        found[name] = ddpm_cli.train([f"run_dir={name}", *arguments]).facts["checkpoint_sha256"]

    threads = [threading.Thread(target=train, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": alone, "b": alone}
    assert not GlobalHydra.instance().is_initialized()


def test_a_training_that_fails_leaves_no_empty_folder(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(DdpmError):
        ddpm_cli.train(["run_dir=r10", "resume=nope", *TRAIN])
    assert not (tmp_path / "r10").exists()


OWN = """
from ddpm_cli.models.unet import UNet

class Net(UNet):
    pass
"""


def test_a_network_of_ones_own_is_returned_and_hydra_is_as_before(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(OWN)
    folder = tmp_path / "conf/model"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "_target_: my_nets.Net\nin_channels: 1\nimage_size: 8\nchannels: 8\nmultipliers: [1, 2]\nblocks: 1\n"
        "attention_resolutions: []\n"
    )
    thin = [a for a in TRAIN if not a.startswith("model.")]
    run = ddpm_cli.train(["run_dir=own", "model=mine", *thin])
    assert type(run.run.module).__name__ == "Net" and len(run.real_images(n=3)) == 3  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="trust"):
        ddpm_cli.load("own")
    (tmp_path / "conf/c.yaml").write_text("a: theirs\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/c.yaml").write_text("a: mine\n")
    with initialize_config_dir(str(tmp_path / "mine"), version_base="1.3"):
        assert compose("c").a == "mine"
