"""Every key of a config and every fact about the data is identity, adjustable or free when a run is resumed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ddpm_cli.data.images import Images
from ddpm_cli.runs.identity import about
from ddpm_cli.runs.resume import ABOUT, ADJUSTABLE, FIXED, FREE, kind_of

CONF = Path(__file__).parents[2] / "conf"
IN_TRAINING = re.findall(r"^  - (\w+):", (CONF / "train.yaml").read_text(), re.MULTILINE)


def keys(node: Any, prefix: str) -> Iterator[str]:
    for name, value in node.items():
        if name != "defaults":
            yield from keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]


def of_groups() -> Iterator[str]:
    for group in IN_TRAINING:
        for file in sorted((CONF / group).glob("*.yaml")) if group != "experiment" else ():
            yield from keys(OmegaConf.to_container(OmegaConf.load(file)), f"{group}.")
    yield from (k for k in keys(OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml")), "") if k != "hydra")


@pytest.mark.parametrize("key", sorted({*of_groups()}))
def test_every_key_has_a_kind(key: str) -> None:
    assert kind_of(key) in (FIXED, ADJUSTABLE, FREE), f"{key}: add it to FIXED, ADJUSTABLE or FREE"


def test_every_fact_about_the_data_has_a_kind() -> None:
    images = Images(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ())
    assert about(images).keys() == ABOUT.keys()


def test_the_longest_name_decides() -> None:
    assert kind_of("trainer.ema.decay") is ADJUSTABLE and kind_of("trainer.ema._target_") is FREE
    assert kind_of("dataset.flip") is ADJUSTABLE and kind_of("dataset.root") is FREE
    assert kind_of("optimizer._target_") is FIXED and kind_of("optimizer.lr") is ADJUSTABLE
    assert kind_of("something.new") is None
