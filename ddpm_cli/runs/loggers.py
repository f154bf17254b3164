"""The network's graph for TensorBoard."""

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


def add_graph(writer: Any, module: nn.Module, shape: Sequence[int]) -> None:
    """Trace a copy of a classifier on one image of `shape` (C,H,W), and log what goes wrong: a picture is no reason to
    end a run.

    The copy is on the CPU and in evaluation mode, so that neither statistics nor random numbers change.

    Args:
        writer: a SummaryWriter.
    """
    image = torch.zeros(1, *shape)
    inputs = (image, torch.zeros(1)) if getattr(module, "timed", True) else (image,)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.random.fork_rng(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: it is right that the graph holds for one size
            writer.add_graph(deepcopy(module).cpu().eval(), inputs)
    except Exception as error:  # tracing raises nearly anything
        log.info("TensorBoard shows no graph of this network (%s)", str(error).strip().partition("\n")[0])
