"""Training a Gaussian mixture: EM instead of gradients, always on the CPU; otherwise a run like any other."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from ..data.images import Images
from ..errors import ConfigError
from ..files import shown
from ..models.gmm import GMM
from ..objectives.em import EM
from ..runs.assemble import completed, network
from ..runs.directory import Reporter, RunDirectory
from ..runs.identity import about, changed, check_opens, write_files
from ..runs.resume import check_resumable, starting_point
from ..sampling.mixture import draws
from .em import EMState, finished, fit
from .randomness import StepRandom
from .room import check_room
from .session import Monitor, Outcome, Session
from .validation import VALIDATION, Callbacks, at_most

log = logging.getLogger(__name__)


class MixtureSession(Session):
    name = "a Gaussian mixture"
    gradient_steps: ClassVar[bool] = False

    @property
    def unused(self) -> tuple[str, ...]:
        return ("schedule", "times", "weighting", "optimizer", "sampler", "guidance")

    @property
    def objective(self) -> EM:
        return cast(EM, self.spec.objective)

    def check(self) -> None:
        """Raises ConfigError for options that only make sense with gradients."""
        if self.plan.epochs is not None:
            raise ConfigError("trainer.epochs: EM uses all images in each step; set trainer.steps instead")
        if self.options.finetune is not None:
            raise ConfigError("finetune: EM starts from the images, not from weights; leave it out")
        for name in ("best_by", "features"):
            if getattr(self.plan, name) is not None:
                raise ConfigError(f"trainer.{name}: EM does not support it, its last step is its best; leave it out")

    def run(self, reporter: Reporter, monitor: Monitor) -> Outcome:
        self.check()
        self.plan = replace(self.plan, max_seconds=self.plan.limit, budget=None)  # EM has no schedule to fit
        with RunDirectory(self.folder, reporter, self.options.loggers) as directory:
            reporter.begin(self.shown, self.folder)
            with reporter.counting() as progress:
                source = self.options.dataset
                images, validation = source.load("train", progress), source.load("val", progress)
            config = completed(self.job.config, images)
            check_opens(images, config)
            state = EMState(cast(GMM, self.spec.wrap(network(config))))
            start = starting_point(self.folder, self.options.resume)
            check_resumable(start, config)
            changed(start, images, config)
            if start is not None:
                state.load(start)
            if finished(state, self.plan):
                directory.leave_finished(state, self.plan.keep_last, None)
                longer = "raise the limit (trainer.steps or max_seconds) to train longer"
                advice = "EM has converged" if state.converged else longer
                return Outcome([f"{shown(self.folder)}: already finished (step {state.step}); {advice}"])
            check_room(self.folder, state, self.plan, len(images))
            directory.open(state.step, config, about(images))
            write_files(self.folder, images)
            c, h, w = images.shape
            count, components = f"{len(images):,}", len(state.module.mixture.weights)
            log.info("%s images of %dx%dx%d, %d components", count, h, w, c, components)
            if start is not None:
                log.info("resuming from step %d (%s)", start.step, shown(start.path))
            self._fit(directory, state, images, validation)
        how = "converged" if state.converged else "finished"
        return Outcome([f"{how} at step {state.step}; draw samples with ddpm sample {self.ckpt}"])

    def _fit(self, directory: RunDirectory, state: EMState, images: Images, validation: Images) -> None:
        callbacks = Callbacks(self._validate(state, validation), self._sample(state))
        if not fit(self.objective, state, images, self.plan, directory, callbacks, self.options.seed):
            raise self.stopped(directory, f"stopped and saved at step {state.step}")

    def _validate(self, state: EMState, validation: Images) -> Callable[[], dict[str, float]] | None:
        images = at_most(validation, self.plan.eval_images)

        def validate() -> dict[str, float]:
            batch = next(images.chunks(len(images)))
            rng = StepRandom(VALIDATION, 0, torch.device("cpu"), len(images))
            logs = self.objective(state.module, batch, rng).logs
            return {f"val_{name}": float(value) for name, value in logs.items()}

        return validate if len(images) else None

    def _sample(self, state: EMState) -> Callable[[], Tensor]:
        return lambda: draws(state.module, range(self.plan.samples), pixel_noise=False)
