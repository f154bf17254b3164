"""One `ddpm train`, from its options to a finished run. What differs between families is asked of a class of theirs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ..build import locate
from ..data.images import Images
from ..errors import ConfigError, Stopped
from ..files import shown
from ..hardware.runtime import choose_runtime
from ..progress import Progress
from ..render.pixels import to_uint8
from ..runs.assemble import ModelSpec, completed, network
from ..runs.directory import GridStyle, Reporter, RunDirectory, about
from ..runs.families import family_of
from ..runs.job import Job
from ..runs.load import PACKAGE
from ..runs.resume import starting_point
from .loop import finished, train
from .options import TrainOptions
from .plan import Plan
from .setup import prepare
from .state import TrainState
from .validation import Callbacks, at_most, validation_loss

log = logging.getLogger(__name__)
Measure = Callable[[Tensor], dict[str, float]]
"""Samples (N,C,H,W) uint8 -> values by name."""
Monitor = Callable[[Plan, Images, Sequence[str]], Measure]
"""The plan, at most `trainer.eval_images` held-out images and trusted packages -> what measures samples."""


class Outcome(NamedTuple):
    """notes: what to tell the user, in order."""

    notes: list[str]


@dataclass(frozen=True)
class LiveRun:
    """What is being trained, and the data.

    Args:
        model: with the averaged weights of the moment, which are what samples are drawn with.
        held_out: held-out images for periodic looks; may be empty, as may be `validation`, all of them.
    """

    model: nn.Module
    images: Images
    validation: Images
    held_out: Images


def run_session(options: TrainOptions, job: Job, reporter: Reporter, monitor: Monitor) -> Outcome:
    """Train what the options describe in the job's folder. Everything is checked before the first file is written.

    Raises:
        DdpmError: whatever is wrong, as one line.
        Stopped: a signal asked for a stop, and the run is saved.
    """
    plan = options.trainer
    runtime = choose_runtime(plan.device, plan.precision, "trainer.device", "trainer.precision")
    spec = ModelSpec(options.objective, options.schedule, runtime)
    config = {**job.config, "run_dir": shown(job.folder)}  # in a sweep, the job's own
    model = spec.wrap(network(config))
    return session_class(model)(options, Job(config, job.folder, job.given), spec, model).run(reporter, monitor)


def session_class(model: nn.Module) -> "type[Session]":
    """The one that trains models of this kind."""
    found = locate(family_of(model).trained, "model", {PACKAGE})
    assert isinstance(found, type) and issubclass(found, Session)
    return found


class Session:
    """Training by gradients. Families derive from this and say what they do besides the loop.

    Args:
        job: its config with the run's own folder.
        model: of the kind that will be trained, around a network whose weights do not matter.
    """

    name: ClassVar[str] = "another model"
    gradient_steps: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    """Whether it draws samples, so that a monitor can measure them."""

    def __init__(self, options: TrainOptions, job: Job, spec: ModelSpec, model: nn.Module):
        self.options, self.job, self.spec, self.model = options, job, spec, model
        self.plan, self.folder = options.trainer, job.folder
        self.notes: list[str] = []

    # what families answer

    def check(self) -> None:
        """Raises ConfigError for options that do not suit the model, before data are read."""

    def load(self, validation: Images, progress: Progress) -> None:
        """Read what else is needed at the end: the run may end hours later."""

    def labels(self, live: LiveRun, n: int) -> Tensor | None:
        """(n,) the class of each picture that is drawn while training; None without classes."""
        return None

    def grid(self, labels: Tensor | None) -> GridStyle:
        """How the periodic pictures are laid out."""
        return GridStyle()

    def preview(self, live: LiveRun, labels: Tensor | None) -> Callable[[], Tensor] | None:
        """What draws the periodic pictures, (N,C,H,W) in [-1, 1]; the same noise at every call. None = nothing."""
        return None

    def draw(self, live: LiveRun, labels: Tensor | None) -> Tensor:
        """`trainer.eval_samples` samples for the monitor, in [-1, 1]; the same noise at every call."""
        raise NotImplementedError

    def pending(self, state: TrainState) -> bool:
        """Whether something is left to do after the loop."""
        return False

    def begin(self, state: TrainState) -> None:
        """Weights are about to change."""

    def started(self, place: RunDirectory, state: TrainState, images: Images) -> None:
        """The run begins from scratch."""

    def complete(self, place: RunDirectory, state: TrainState, live: LiveRun) -> None:
        """What is left to do when the loop is done. Raises Stopped for a signal."""

    def next_step(self, run: str) -> str:
        """What a user would do with it now."""
        return f"see what it is worth with ddpm eval ckpt={run}"

    # what is the same for all of them

    def run(self, reporter: Reporter, monitor: Monitor) -> Outcome:
        self.check()
        with RunDirectory(self.folder, reporter, self.options.loggers) as place:
            reporter.begin(self.job.config, self.folder)
            with reporter.counting() as progress:
                source = self.options.dataset
                images, validation = source.load("train", progress), source.load("val", progress)
                self.load(validation, progress)
            config = completed(self.job.config, images)
            if self.plan.best_by_validation and not len(validation):
                raise ConfigError("trainer.best_by: there are no held-out images; set dataset.val_fraction=0.1")
            start = starting_point(self.folder, self.options.resume, config)
            state = prepare(network(config), self.options.optimizer, self.plan, self.spec, start, images)
            few = at_most(validation, self.plan.eval_images)
            live = LiveRun(self.spec.wrap(state.weights), images, validation, few)
            if finished(state, self.plan, len(images)) and not self.pending(state):
                note = f"{shown(self.folder)}: is finished (step {state.step}); set a higher trainer.steps to go on"
                return Outcome([note])
            self._train(place, config, state, live, self._callbacks(live, monitor))
        return Outcome(self.notes)

    def _train(
        self, place: RunDirectory, config: Mapping[str, Any], state: TrainState, live: LiveRun, callbacks: Callbacks
    ) -> None:
        plan, images, run, first = self.plan, live.images, shown(self.folder), state.step
        if not finished(state, plan, len(images)):
            self.begin(state)
        place.open(state.step, config, about(images), self.grid(self.labels(live, plan.samples)))
        log.info("%s", self._summary(images, state.module))
        if state.resumed_from is not None:
            where = shown(state.resumed_from)
            log.info("going on from step %d of %d (%s)", first, plan.length(len(images)), where)
        else:
            self.started(place, state, images)
        model = self.spec.wrap(state.module)
        if not train(self.spec.objective, model, state, images, plan, place, callbacks, self.options.seed):
            raise Stopped(place.stop_signal, f"{run}: stopped and saved at step {state.step}")
        self.complete(place, state, live)
        log.info("finished at step %d", state.step)
        why = "" if state.step >= plan.length(len(images)) else f", after trainer.max_seconds={plan.max_seconds:g}"
        self.notes.append(f"finished at step {state.step}{why}: {self.next_step(run)}")

    def _callbacks(self, live: LiveRun, monitor: Monitor) -> Callbacks:
        """Validation and periodic pictures."""
        measure_samples = self._monitor(live, monitor)

        def validate() -> dict[str, float]:
            found = validation_loss(self.spec.objective, live.model, live.held_out, self.plan.batch_size)
            return found | measure_samples()

        preview = self.preview(live, self.labels(live, self.plan.samples))
        return Callbacks(validate if len(live.held_out) else None, preview)

    def _monitor(self, live: LiveRun, monitor: Monitor) -> Callable[[], dict[str, float]]:
        """What else is measured whenever the model is validated. Raises ConfigError where it cannot be."""
        if self.plan.features is None:
            return lambda: {}
        if not self.draws:
            raise ConfigError(f"trainer.features: is for generators, and this is {self.name}; leave it out")
        if len(live.held_out) < 2:
            raise ConfigError("trainer.features: needs held-out images to compare with; set dataset.val_fraction=0.1")
        measure, labels = (
            monitor(self.plan, live.held_out, self.options.trust),
            self.labels(live, self.plan.eval_samples),
        )

        def measure_samples() -> dict[str, float]:
            live.model.eval()
            return measure(to_uint8(self.draw(live, labels)))

        return measure_samples

    def _summary(self, images: Images, module: nn.Module) -> str:
        parameters = sum(p.numel() for p in module.parameters())
        c, h, w = images.shape
        return f"{len(images):,} images of {h}x{w}x{c}, {parameters:,} parameters, {self.spec.runtime}"
