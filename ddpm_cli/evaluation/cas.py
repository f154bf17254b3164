"""Classification accuracy score: how good a teacher the samples are."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..build import build
from ..data.images import Images
from ..diffusion.classifier import NoisyClassifier
from ..errors import ConfigError
from ..hardware.runtime import choose
from ..metrics.resample import mean
from ..progress import Progress
from ..runs.assemble import network, wrapper_of
from ..training.loop import update
from ..training.setup import prepare
from .case import Case
from .finding import Finding, Row

SEED = 0
"""Of the first weights and the order of the images: one for samples and real images, so that only these differ."""


def cas(case: Case) -> Finding:
    """Accuracy on held-out images of a classifier that was trained on the samples (Ravuri & Vinyals 2019).

    Beside it that of the same classifier after as many steps on as many real training images.
    """
    data, names, real = case.eyes.data, case.eyes.class_names, case.real
    assert data is not None and case.samples.labels is not None
    steps, config = case.options.cas_steps, dict(data.config)
    fake = Images(case.samples.pixels, case.samples.labels, names, flip=case.train.flip)
    learned = taught(fake, config, data.trusted, steps, case.eyes.device.type, case.progress, "samples")
    right = _right(learned, real, case.batch_size)
    best = None
    if case.control is not None:
        taught_by_real = taught(
            case.control, config, data.trusted, steps, case.eyes.device.type, case.progress, "real images"
        )
        best = mean(_right(taught_by_real, real, case.batch_size))
    settings = {"steps": steps}
    return Finding({"classification accuracy score": Row(case.bootstrap(mean, right), best, "{:.1%}", settings)})


def taught(
    images: Images,
    config: Mapping[str, Any],
    trusted: Collection[str],
    steps: int,
    device: str,
    progress: Progress,
    what: str,
) -> NoisyClassifier:
    """A classifier trained for `steps` on `images` with the recipe of `config`, ready to answer."""
    recipe = {**config, "seed": SEED}
    objective = build(recipe["objective"], "objective", trust=trusted)
    plan = replace(build(recipe["trainer"], "trainer", trust=trusted), steps=steps, epochs=None, compile=False)
    runtime = choose(device, "fp32")
    wrap = wrapper_of(recipe, runtime, objective, trusted)
    state = prepare(network(recipe, images, trust=trusted), _optimizer(recipe, trusted), plan, runtime, None, objective)
    model = wrap(state.module)
    rates = [group["lr"] for group in state.optimizer.param_groups]
    model.train()
    for batch in images.batches(plan.batch_size, SEED, device=runtime.device):
        if state.step == steps:
            break
        factor = plan.learning_rate(state.step, steps, len(images))
        for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        update(objective, model, state, batch, plan, SEED)
        progress(f"learning from {what}", state.step, steps)
    answering = wrap(state.weights).eval()
    assert isinstance(answering, NoisyClassifier)
    return answering


def _optimizer(config: Mapping[str, Any], trusted: Collection[str]) -> Any:
    """The optimizer node, of torch or a trusted package. Raises ConfigError for anything else."""
    made = build(config["optimizer"], "optimizer", trust={*trusted, "torch"})
    if not (isinstance(getattr(made, "func", None), type) and issubclass(made.func, Optimizer)):
        raise ConfigError("features: its optimizer is none; cas cannot train it anew")
    return made


def _right(model: NoisyClassifier, images: Images, batch_size: int) -> Tensor:
    """(N,) whether each is answered with its class."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([(model.clean(b.x).argmax(1) == b.y).cpu() for b in images.chunks(batch_size, device)])
