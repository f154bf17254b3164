"""One `ddpm train`, from its options to a finished run. Each family of models has its own subclass of `Session`."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ..data.images import Images
from ..diffusion.guidance import ClassifierFree
from ..errors import ConfigError, Stopped
from ..files import override, shown
from ..progress import Progress, plural
from ..render.pixels import to_uint8
from ..runs.assemble import ModelSpec, completed, network, with_statistics
from ..runs.checkpoint import Checkpoint, name_of
from ..runs.directory import Reporter, RunDirectory
from ..runs.grid import GridStyle
from ..runs.identity import about, changed, check_classes, check_opens, unlearned, write_files
from ..runs.job import Job
from ..runs.resume import check_resumable, starting_point
from .course import opened
from .finetune import take_weights
from .fitting import advised
from .loop import finished, train
from .options import TrainOptions, plan_of, rate_of
from .plan import UNKNOWN, Plan
from .rates import warn_of_jump
from .room import check_room
from .setup import missing_attention, prepare
from .state import TrainState
from .validation import Callbacks, at_most, validation_loss
from .width import Fit, fit, with_width

log = logging.getLogger(__name__)
Measure = Callable[[Tensor], dict[str, float]]
"""Samples (N,C,H,W) uint8 -> values by name."""
Monitor = Callable[[Plan, Images, Sequence[str]], Measure]
"""The plan, at most `trainer.eval_images` held-out images and trusted packages -> a `Measure`."""


class Outcome(NamedTuple):
    """notes: lines for the user, in order."""

    notes: list[str]


@dataclass(frozen=True)
class LiveRun:
    """The model in training, and its data.

    Args:
        model: the model with the current averaged weights, with which samples are drawn.
        validation: all held-out images; may be empty.
        held_out: those used for periodic validation; may be empty.
    """

    model: nn.Module
    images: Images
    validation: Images
    held_out: Images


class Session:
    """Training by gradients. Families override what they do besides the training loop.

    Args:
        job: its config has the run's own folder as run_dir.
        model: a model of the kind that will be trained; its weights do not matter.
    """

    name: ClassVar[str] = "another model"
    gradient_steps: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    """Whether it draws samples, so that a monitor can measure them."""
    source: Checkpoint | None = None
    """Where the weights of a new run come from."""

    def __init__(self, options: TrainOptions, job: Job, spec: ModelSpec, model: nn.Module):
        self.options, self.job, self.spec, self.model = options, job, spec, model
        self.plan, self.folder = plan_of(options, job), job.folder
        self.notes: list[str] = []

    # overridden by families

    @property
    def unused(self) -> tuple[str, ...]:
        """Groups of the config that the model has no use for; they are not shown."""
        return ()

    def check(self) -> None:
        """Raises ConfigError for options that do not fit the model, before data are read."""

    def load(self, validation: Images, progress: Progress) -> None:
        """Read the data needed at the end of the run, so that an error shows now and not hours later."""

    def labels(self, live: LiveRun, n: int) -> Tensor | None:
        """(n,) the class of each sample that is drawn while training; None without classes."""
        return None

    def grid(self, labels: Tensor | None, class_names: Sequence[str]) -> GridStyle:
        """The layout of the periodic sample grids."""
        return GridStyle()

    def preview(self, live: LiveRun, labels: Tensor | None) -> Callable[[], Tensor] | None:
        """Draws the images of the periodic grids, (N,C,H,W) in [-1, 1], with the same noise at every call; or None."""
        return None

    def draw(self, live: LiveRun, labels: Tensor | None) -> Tensor:
        """`trainer.eval_samples` samples for the monitor, in [-1, 1]; the same noise at every call."""
        raise NotImplementedError

    def pending(self, state: TrainState) -> bool:
        """Whether `complete` still has work to do."""
        return False

    def begin(self, state: TrainState) -> None:
        """Called before the weights change."""

    def started(self, directory: RunDirectory, state: TrainState, images: Images) -> None:
        """Called when the run starts from scratch."""

    def complete(self, directory: RunDirectory, state: TrainState, live: LiveRun) -> None:
        """Called after the training loop. Raises Stopped on a signal."""

    def next_step(self) -> str:
        """Advice on what to do with the finished run."""
        return f"evaluate it with ddpm eval {self.ckpt}"

    # the same for all families

    @property
    def shown(self) -> Mapping[str, Any]:
        """The part of the config that is shown at the start."""
        return {key: node for key, node in self.job.config.items() if key not in self.unused}

    @property
    def ckpt(self) -> str:
        """`ckpt=` this run, as it is typed."""
        return override("ckpt", shown(self.folder))

    def stopped(self, directory: RunDirectory, how: str) -> Stopped:
        """The exception that ends a run after a signal."""
        places = (override("run_dir", shown(folder)) for folder in (self.folder, self.folder.parent))
        return Stopped(directory.stops.signal, f"{shown(self.folder)}: {how}", *places)

    def run(self, reporter: Reporter, monitor: Monitor) -> Outcome:
        self.check()
        with RunDirectory(self.folder, reporter, self.options.loggers) as directory:
            reporter.begin(self.shown, self.folder)
            with reporter.counting() as progress:
                source = self.options.dataset
                images, validation = source.load("train", progress), source.load("val", progress)
                self.load(validation, progress)
            start = starting_point(self.folder, self.options.resume)
            check_classes(start, images, self.job.config)
            config = self._completed(images, start)
            check_opens(images, config)
            check_resumable(start, config)
            if self.plan.best_by_validation and not len(validation):
                advice = "set dataset.val_fraction=0.1" if len(images) > 1 else "add pictures, this is a single one"
                raise ConfigError(f"trainer.best_by: there are no held-out images; {advice}")
            optimizer = partial(self.options.optimizer, **rate_of(config))
            state = prepare(network(config), optimizer, self.plan, self.spec, start, images)
            state.lead = time.perf_counter() - self.job.began
            self._begin_from(start, state, images)
            self.plan = opened(self.plan, state, self.folder)
            held_out = at_most(validation, self.plan.eval_images)
            live = LiveRun(self.spec.wrap(state.weights), images, validation, held_out)
            if finished(state, self.plan, len(images)) and not self.pending(state) and not state.owed:
                if start is not None and not start.path.is_relative_to(self.folder):
                    at = f"{shown(start.path)} is already at step {state.step}"
                    raise ConfigError(
                        f"resume: {at}; raise the limit (trainer.steps, epochs, max_seconds or budget; it has trained "
                        f"for {state.seconds:.0f} s), or set finetune instead of resume, for a new run from its weights"
                    )
                directory.leave_finished(state, self.plan.keep_last, self.plan.best_by)
                advice = "raise the limit (trainer.steps, epochs, max_seconds or budget) to train longer"
                if self.plan.budget_seconds:
                    advice += f"; it has used {state.seconds:.0f} s, and needs a few more to start and to end"
                return Outcome([f"{shown(self.folder)}: already finished (step {state.step}); {advice}"])
            self._train(directory, config, state, live, self._callbacks(live, monitor))
        return Outcome(self.notes)

    def _begin_from(self, start: Checkpoint | None, state: TrainState, images: Images) -> None:
        """Take the weights to fine-tune into a new run; in a resumed one, forget a best checkpoint of other data."""
        if start is None:
            if self.source is not None:
                take_weights(state, self.source, images.class_names)
            return
        if self.source is not None:
            log.info("finetune: ignored, as this run has begun already; it resumes from its own checkpoint")
        if changed(start, images, self.job.config):
            state.best = {}
        elif state.best and not start.path.is_relative_to(self.folder):
            log.info("the best checkpoint is chosen from here on: the one so far is not in this run_dir")
            state.best = {}
        warn_of_jump(start, self.plan, state.step, len(images))

    def _completed(self, images: Images, start: Checkpoint | None) -> Mapping[str, Any]:
        """The config with what depends on the data, and with a width for the network."""

        def choose(usual: Mapping[str, Any]) -> Fit:
            spent = time.perf_counter() - self.job.began
            return fit(usual, self.options.optimizer, self.plan, self.spec, images, spent)

        config = with_width(completed(with_statistics(self.job.config, start), images), start, self.job.sets, choose)
        scale = (config.get("guidance") or {}).get("scale")
        if isinstance(self.options.guidance, ClassifierFree) and scale is not None:
            guidance = replace(self.options.guidance, scale=float(scale))
            self.options = replace(self.options, guidance=guidance)
        return config

    def _train(
        self, directory: RunDirectory, config: Mapping[str, Any], state: TrainState, live: LiveRun, callbacks: Callbacks
    ) -> None:
        plan, images, first = self.plan, live.images, state.step
        if not finished(state, plan, len(images)):
            self.begin(state)
        style = self.grid(self.labels(live, plan.samples), images.class_names)
        check_room(self.folder, state, plan, len(images))
        directory.open(state.step, config, about(images), style)
        write_files(self.folder, images)
        if images.facts is not None:
            for line in (*images.facts.lines, *unlearned(config, images)):
                log.info("%s", line)
            for line in images.facts.warnings:
                log.warning("%s", line)
        log.info("%s", self._summary(images, state.module))
        if state.resumed_from is not None:
            total = plan.length(len(images))
            of = "" if total == UNKNOWN else f" of {total}"
            log.info("resuming from step %d%s (%s)", first, of, shown(state.resumed_from))
        else:
            if line := missing_attention(state.module):
                log.info("%s", line)
            self.started(directory, state, images)
        model = self.spec.wrap(state.module)
        with advised(state, plan):
            if not train(self.spec.objective, model, state, images, plan, directory, callbacks, self.options.seed):
                raise self.stopped(directory, f"stopped and saved at step {state.step}")
            self.complete(directory, state, live)
        plan = opened(plan, state, self.folder)  # with the number of steps that a budget gave
        reason = "" if state.step >= plan.length(len(images)) else f", after trainer.max_seconds={plan.max_seconds:g}"
        log.info("finished at step %d%s", state.step, reason)
        if self.draws and "step" in state.best and state.best["step"] != state.step:
            best = directory.checkpoints / f"{name_of(state.best['step'])}.safetensors"
            by = f"{self.plan.best_by} {state.best['value']:.4g}"
            self.notes.append(f"best checkpoint by {by}: {override('ckpt', shown(best))}")
        self.notes.append(self.next_step())

    def _callbacks(self, live: LiveRun, monitor: Monitor) -> Callbacks:
        """Validation and periodic samples."""
        measure_samples = self._monitor(live, monitor)

        def validate() -> dict[str, float]:
            losses = validation_loss(self.spec.objective, live.model, live.held_out, self.plan.batch_size)
            return losses | measure_samples()

        preview = self.preview(live, self.labels(live, self.plan.samples))
        return Callbacks(validate if len(live.held_out) else None, preview)

    def _monitor(self, live: LiveRun, monitor: Monitor) -> Callable[[], dict[str, float]]:
        """Measures samples at each validation. Raises ConfigError when that is impossible."""
        if self.plan.features is None:
            return lambda: {}
        if not self.draws:
            raise ConfigError(f"trainer.features: needs a model that draws samples, not {self.name}; leave it out")
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
        classes = f" in {images.classes} classes" if images.classes else ""
        mirrored = ", mirrored at random (dataset.flip)" if images.flip else ""
        data = f"{plural(len(images), 'image')} of {h}x{w}x{c}{classes}{mirrored}"
        return f"{data}, {parameters:,} parameters, {self.spec.runtime}"
