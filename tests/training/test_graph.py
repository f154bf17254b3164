"""The graph in TensorBoard: there, and nothing else is different for it."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ddpm_cli.models.classifier_layers import Classifier
from ddpm_cli.models.resnet import ResNet
from ddpm_cli.models.unet_classifier import UNetClassifier
from ddpm_cli.runs.loggers import add_graph


def has_graph(folder: Path) -> bool:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return bool(events.Tags()["graph"])


@pytest.mark.parametrize(
    "module",
    [ResNet(1, channels=4, blocks=1), UNetClassifier(1, 8, channels=16, multipliers=(1,), dropout=0.5)],
    ids=["untimed", "timed"],
)
def test_it_is_there_and_nothing_changes(module: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with warnings.catch_warnings(), SummaryWriter(str(tmp_path)) as writer:
        warnings.simplefilter("error")
        add_graph(writer, module, (1, 8, 8))
    assert torch.equal(torch.rand(1), expected)
    assert module.training and all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert capfd.readouterr() == ("", "")
    assert has_graph(tmp_path)


class Untraceable(Classifier):
    timed = False

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        raise RuntimeError("no such luck\nand more")


def test_what_cannot_be_traced_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    with SummaryWriter(str(tmp_path)) as writer:
        add_graph(writer, Untraceable(), (1, 8, 8))
    assert caplog.messages == ["TensorBoard shows no graph of this network (no such luck)"]
    assert "Error occurs" not in capfd.readouterr().out  # torch's own print
    assert not has_graph(tmp_path)
