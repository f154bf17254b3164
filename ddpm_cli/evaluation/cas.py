"""Classification accuracy score (CAS): the accuracy of a classifier that was trained on samples."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..build import build
from ..data.images import Images
from ..diffusion.classifier import NoisyClassifier
from ..errors import ConfigError
from ..hardware.runtime import choose_runtime
from ..metrics.resample import mean
from ..progress import Progress
from ..runs.assemble import ModelSpec, completed, network
from ..sampling.classifier import LoadedClassifier
from ..training.loop import update
from ..training.setup import prepare
from .comparison import Comparison
from .result import MetricResult, MetricValue

SEED = 0
"""Seed of the initial weights and the image order, the same for samples and real images, so that only these differ."""


def cas(case: Comparison) -> MetricResult:
    """Accuracy on held-out images of a classifier that was trained on the samples (Ravuri & Vinyals 2019).

    The reference is the same classifier, trained for as many steps on as many real training images.
    """
    recipe, real = case.extractor.classifier, case.real
    assert recipe is not None and case.samples.labels is not None
    steps = case.options.cas.steps
    fake = Images(case.samples.pixels, case.samples.labels, recipe.class_names, flip=case.train.flip)
    trained_on_samples = train_classifier(recipe, fake, steps, case.progress, "samples")
    correct = _correct(trained_on_samples, real, case.options.batch_size)
    best = None
    if case.control is not None:
        trained_on_real = train_classifier(recipe, case.control, steps, case.progress, "real images")
        best = mean(_correct(trained_on_real, real, case.options.batch_size))
    value = MetricValue(case.bootstrap(mean, correct), best, "{:.1%}", {"steps": steps})
    return MetricResult({"classification accuracy score": value})


def train_classifier(
    recipe: LoadedClassifier, images: Images, steps: int, progress: Progress, what: str
) -> NoisyClassifier:
    """A classifier trained from scratch on `images` for `steps`, with the config of `recipe`; in evaluation mode."""
    config, trusted = {**recipe.config, "seed": SEED}, recipe.trusted
    plan = replace(build(config["trainer"], "trainer", trust=trusted), steps=steps, epochs=None, compile=False)
    runtime = choose_runtime(recipe.runtime.device.type, "fp32")
    spec = ModelSpec.of(config, runtime, trusted)
    module = network(completed(config, images), trusted)
    state = prepare(module, _optimizer(config, trusted), plan, spec, None)
    model = spec.wrap(state.module)
    rates = [group["lr"] for group in state.optimizer.param_groups]
    model.train()
    for batch in images.batches(plan.batch_size, SEED, device=runtime.device):
        if state.step == steps:
            break
        factor = plan.learning_rate(state.step, steps, len(images))
        for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        update(spec.objective, model, state, batch, plan, SEED)
        progress(f"training on {what}", state.step, steps)
    return cast(NoisyClassifier, spec.wrap(state.weights).eval())


def _optimizer(config: Mapping[str, Any], trusted: Collection[str]) -> Any:
    """The optimizer node. Raises ConfigError for a class that is none."""
    optimizer = build(config["optimizer"], "optimizer", trust=trusted)
    if not (isinstance(getattr(optimizer, "func", None), type) and issubclass(optimizer.func, Optimizer)):
        raise ConfigError(
            "features: cas cannot retrain this classifier, its optimizer is not a torch optimizer; "
            "use another classifier"
        )
    return optimizer


def _correct(model: NoisyClassifier, images: Images, batch_size: int) -> Tensor:
    """(N,) whether each image is classified correctly."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([(model.clean(b.x).argmax(1) == b.y).cpu() for b in images.chunks(batch_size, device)])
