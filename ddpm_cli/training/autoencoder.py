"""Training an autoencoder: reconstructions while it trains; the prior and a map of the latents at the end."""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from ..data.images import to_float
from ..diffusion.noise import ImageNoise
from ..objectives.latent import LatentModel
from ..runs.directory import LATENT_MAP, RunDirectory
from ..runs.grid import GridStyle
from .prior import PriorFit
from .session import LiveRun, Session
from .state import TrainState

BATCH = 64


class AutoencoderSession(Session):
    name = "an autoencoder"
    draws = True

    @property
    def unused(self) -> tuple[str, ...]:
        return ("schedule", "times", "weighting", "sampler", "guidance")

    def grid(self, labels: Tensor | None, class_names: Sequence[str]) -> GridStyle:
        return GridStyle(self._columns, "Rows in pairs: real, then reconstructed")

    def preview(self, live: LiveRun, labels: Tensor | None) -> Callable[[], Tensor] | None:
        """Rows of held-out images, each with a row of their reconstructions below; about `trainer.samples` in all."""
        if not len(live.held_out):
            return None
        model, columns = cast(LatentModel, live.model), self._columns
        rows = max(1, min(self.plan.samples // columns // 2, len(live.held_out) // columns))
        images = to_float(live.held_out.take(rows * columns).pixels)
        eps = ImageNoise(range(len(images))).first((model.latent,), "cpu")

        def reconstruct() -> Tensor:
            model.eval()
            real = images.to(next(model.parameters()).device)
            with torch.no_grad():
                reconstructed = model.reconstruct(real, eps.to(real.device))
            pairs = zip(real.split(columns), reconstructed.split(columns), strict=True)
            return torch.cat([row for pair in pairs for row in pair])

        return reconstruct

    def draw(self, live: LiveRun, labels: Tensor | None) -> Tensor:
        """Samples from the prior N(0, I): the mixture is fitted only when training is over."""
        model = cast(LatentModel, live.model)
        device = next(model.parameters()).device
        with torch.no_grad():
            z = ImageNoise(range(self.plan.eval_samples)).first((model.latent,), device)
            return torch.cat([model.image(batch) for batch in z.split(BATCH)])

    def pending(self, state: TrainState) -> bool:
        return self._prior(state).lacking

    def begin(self, state: TrainState) -> None:
        self._prior(state).forget()

    def complete(self, directory: RunDirectory, state: TrainState, live: LiveRun) -> None:
        fit, images = self._prior(state), live.images
        if not fit.run(images, lambda: directory.stops.signal is not None):
            raise self.stopped(directory, "stopped before the prior was fitted")
        # the map first: once the fitted prior is saved, the run is finished and would not draw it again
        with directory.optional(f"samples/{LATENT_MAP}"):
            fit.draw_map(self.folder / "samples" / LATENT_MAP, live.validation if len(live.validation) else images)
        if fit.wanted:
            directory.save(state, self.plan.keep_last, self.plan.best_by)

    def next_step(self) -> str:
        return f"draw samples with ddpm sample {self.ckpt}"

    @property
    def _columns(self) -> int:
        return max(1, math.isqrt(self.plan.samples))

    def _prior(self, state: TrainState) -> PriorFit:
        def model_of(module: torch.nn.Module) -> LatentModel:
            return cast(LatentModel, self.spec.wrap(module))

        average = None if state.ema is None else model_of(state.ema.module)
        return PriorFit(model_of(state.module), average, self.plan.batch_size, self.options.seed)
