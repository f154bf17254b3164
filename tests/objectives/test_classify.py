"""The cross-entropy of classifiers with and without a time input."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ddpm_cli.data.images import Batch
from ddpm_cli.diffusion.schedule import LinearSchedule
from ddpm_cli.models.classifier_layers import Classifier
from ddpm_cli.models.resnet import ResNet
from ddpm_cli.models.unet_classifier import UNetClassifier
from ddpm_cli.objectives.classify import Classify
from ddpm_cli.training.randomness import StepRandom

SCHEDULE = LinearSchedule()


class Spy(Classifier):
    """Classifies by the mean of each channel and records its inputs."""

    def __init__(self, timed: bool):
        super().__init__()
        self.timed = timed
        self.inputs: list[tuple[Tensor, ...]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.inputs.append(inputs)
        return 3 * inputs[0].mean((2, 3))


def batch() -> Batch:
    x = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Batch(x + torch.eye(4).repeat(2, 1)[:, :, None, None], torch.arange(8) % 4)


def rng() -> StepRandom:
    return StepRandom(0, 0, torch.device("cpu"), 8)


def test_a_clean_classifier_gets_the_image_without_noise() -> None:
    spy, data = Spy(timed=False), batch()
    loss = Classify(noisy=False)(Classify(noisy=False).wrap(spy, SCHEDULE), data, rng())
    (inputs,) = spy.inputs
    assert len(inputs) == 2 and torch.equal(inputs[0], data.x) and not inputs[1].any()
    logits = 3 * data.x.mean((2, 3))
    assert loss.value == pytest.approx(float(F.cross_entropy(logits, data.y)))
    assert loss.logs["accuracy"] == (logits.argmax(1) == data.y).float().mean() > 0.5


def test_a_timed_classifier_of_clean_images_gets_time_zero() -> None:
    spy = Spy(timed=True)
    Classify(noisy=False)(Classify(noisy=False).wrap(spy, SCHEDULE), batch(), rng())
    assert torch.equal(spy.inputs[0][1], torch.zeros(8))


def test_only_training_images_are_cropped() -> None:
    spy, data = Spy(timed=False), batch()
    objective = Classify(noisy=False, crop_scale=(0.3, 0.6))
    model = objective.wrap(spy, SCHEDULE)
    objective(model.train(), data, rng())
    objective(model.eval(), data, rng())
    trained, validated = (inputs[0] for inputs in spy.inputs)
    assert torch.equal(validated, data.x) and trained.shape == data.x.shape
    assert not torch.allclose(trained, data.x, atol=0.1)


def test_a_noisy_classifier_gets_noise_on_the_crop() -> None:
    spy, data = Spy(timed=True), batch()
    objective = Classify(crop_scale=(0.3, 0.6))
    constant = Batch(torch.ones_like(data.x), data.y)  # so that all crops are equal
    objective(objective.wrap(spy, SCHEDULE).train(), constant, rng())
    x, c = spy.inputs[0]
    assert len(c.unique()) == 8 and x.flatten(1).std(1).min() > 0


def test_label_smoothing_is_only_for_training() -> None:
    objective = Classify(noisy=False, label_smoothing=0.2)
    model, data = objective.wrap(Spy(timed=False), SCHEDULE), batch()
    logits = 3 * data.x.mean((2, 3))
    smooth = F.cross_entropy(logits, data.y, label_smoothing=0.2)
    assert objective(model.train(), data, rng()).value == pytest.approx(float(smooth))
    assert objective(model.eval(), data, rng()).value == pytest.approx(float(F.cross_entropy(logits, data.y)))


def test_a_network_without_a_time_input_cannot_train_on_noisy_images() -> None:
    with pytest.raises(ValueError, match=r"^objective\.noisy: this network does not take the noise level; use"):
        Classify(noisy=True).wrap(ResNet(1, channels=4, blocks=1), SCHEDULE)
    for noisy in (True, False):
        Classify(noisy=noisy).wrap(UNetClassifier(1, 8, channels=16, multipliers=(1,)), SCHEDULE)
    with pytest.raises(ValueError, match="^objective: classify needs a classifier"):
        Classify(noisy=False).wrap(nn.Identity(), SCHEDULE)


@pytest.mark.parametrize(
    "options",
    [{"crop_scale": (0.0, 1.0)}, {"crop_scale": (0.9, 0.8)}, {"crop_scale": (0.5, 1.5)}, {"crop_ratio": (0.0, 1.0)},
     {"crop_ratio": (2.0, 1.0)}, {"label_smoothing": 1.0}],
)  # fmt: skip
def test_values_out_of_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        Classify(**options)
