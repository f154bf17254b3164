"""Training a diffusion model: the samples drawn while it trains."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from ..data.images import Images
from ..diffusion.denoiser import Denoiser
from ..diffusion.generate import generate
from ..diffusion.guidance import Guidance
from ..diffusion.samplers import Sampler
from ..errors import ConfigError
from ..render.heading import headings
from ..render.pixels import columns_by_class
from ..runs.assemble import check
from ..runs.directory import RunDirectory
from ..runs.grid import GridStyle
from ..sampling.request import cycle
from ..sampling.run_guidance import usable
from .session import LiveRun, Session
from .state import TrainState

log = logging.getLogger(__name__)
BATCH = 64


class DiffusionSession(Session):
    name = "a diffusion model"
    draws = True

    @property
    def _sampler(self) -> Sampler:
        return cast(Sampler, self.options.sampler)  # the options have put one in the place of sampler=run

    @property
    def _guidance(self) -> Guidance:
        return cast(Guidance, self.options.guidance)

    def check(self) -> None:
        model = cast(Denoiser, self.model)
        check(model, self._sampler)
        chosen = self._guidance
        if self.job.sets("guidance") and chosen != usable(chosen, self._can_be_guided(model)):
            raise ConfigError(
                "guidance: cfg needs a class-conditional model with objective.label_dropout above 0; use guidance=none"
            )

    def started(self, directory: RunDirectory, state: TrainState, images: Images) -> None:
        guided = self._can_be_guided(cast(Denoiser, self.spec.wrap(state.weights)))
        if self._guidance != usable(self._guidance, guided):
            log.info("guidance: none, as this model does not learn classes")

    def labels(self, live: LiveRun, n: int) -> Tensor | None:
        """For a class-conditional model, the classes in turn."""
        return cycle(range(live.images.classes), n) if cast(Denoiser, live.model).class_conditional else None

    def grid(self, labels: Tensor | None, class_names: Sequence[str]) -> GridStyle:
        if labels is None or not class_names:
            return GridStyle(columns_by_class(labels))
        classes = headings([class_names[i] for i in labels.tolist()], labels.tolist())
        return GridStyle(columns_by_class(labels), classes=tuple(classes))

    def preview(self, live: LiveRun, labels: Tensor | None) -> Callable[[], Tensor]:
        def draw() -> Tensor:
            live.model.eval()
            return self._generate(live, self.plan.samples, labels, self.plan.samples)

        return draw

    def draw(self, live: LiveRun, labels: Tensor | None) -> Tensor:
        return self._generate(live, self.plan.eval_samples, labels, BATCH)

    def next_step(self) -> str:
        learned = cast(Denoiser, self.model).learned_variance
        return f"draw samples with ddpm sample {self.ckpt}{' sampler=ddpm sampler.variance=learned' if learned else ''}"

    def _generate(self, live: LiveRun, n: int, labels: Tensor | None, batch_size: int) -> Tensor:
        model, sampler, shape = cast(Denoiser, live.model), self._sampler, live.images.shape
        guidance = usable(self._guidance, self._can_be_guided(model))
        drawn = generate(model, sampler, shape, range(n), labels, batch_size=batch_size, guidance=guidance)
        return torch.cat(list(drawn))

    def _can_be_guided(self, model: Denoiser) -> bool:
        return model.class_conditional and getattr(self.options.objective, "label_dropout", 0.0) > 0
