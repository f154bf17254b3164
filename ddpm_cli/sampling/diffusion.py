"""An opened run of a diffusion model: sampling, guidance, editing, animation, likelihood."""

import logging
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..data.images import to_float
from ..diffusion.denoiser import Denoiser
from ..diffusion.guidance import Guidance, Unguided
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..progress import Progress
from ..render.forward import forward_frames, forward_strip
from ..render.time_label import TimeLabel, time_label_of
from ..runs.assemble import Config, check
from ..runs.images import RealImages
from ..runs.job import Job
from ..runs.load import RunModel
from ..text import named
from .animation import Animation, AnimationOptions, PingPong, denoising, interpolation
from .batching import NetworkCall
from .bits import BitsOptions
from .diffusion_bits import DiffusionBits
from .diffusion_tasks import PerImageSettings, task_of
from .generator import Generator
from .guidance import ReadyGuidance, ready, settings
from .request import LISTED, Request
from .run_guidance import RUN_GUIDANCE, RunGuidance
from .run_sampler import RUN_SAMPLER, RunSampler, late_start, sampler_name
from .task import Task

log = logging.getLogger(__name__)

GROUPS = ("sampler", "guidance")
CHANGED = "the run, with changes"
OF_PICTURES = ("variation", "inpaint", "between_images")
"""Tasks that start from pictures, whose class is unknown."""


class DiffusionGenerator(Generator):
    name = "a diffusion model"
    ignores = ("prior", "pixel_noise")
    animations = ("denoise", "forward", "interpolate")

    def __init__(self, run: RunModel):
        super().__init__(run)
        self.runtime.freeze(run.module)
        self.model = cast(Denoiser, run.model)
        self.conditional = self.model.class_conditional
        # missing in older runs, which had none
        self.label_dropout = float(self.config["objective"].get("label_dropout", 0.0))

    @property
    def schedule(self) -> Schedule:
        return self.model.schedule

    @property
    def can_be_guided(self) -> bool:
        """Whether the model learned its images both with and without their class."""
        return self.conditional and self.label_dropout > 0

    @property
    def time_label(self) -> TimeLabel:
        return time_label_of(self.schedule, self.config["schedule"].get("steps"))

    @property
    def network_call(self) -> NetworkCall:
        def call(model: nn.Module, images: int) -> None:
            x = torch.zeros(images, *self.shape, device=self.runtime.device, requires_grad=True)
            model(x, torch.full((images,), 0.5, device=self.runtime.device))

        return call

    def plan(self, request: Request, weights: Tensor | None = None) -> Task:
        if request.prior != "auto":
            raise ConfigError("prior: only for autoencoders, and this is a diffusion model; leave it out")
        if request.pixel_noise:
            raise ConfigError(
                "pixel_noise: only for autoencoders and mixtures, and this is a diffusion model; leave it out"
            )
        sampler, chosen_by = request.sampler, "request"
        if isinstance(sampler, RunSampler):
            sampler, chosen_by = sampler.of(self.config, self.trusted), "run"
        check(self.model, sampler)
        if request.task == "plain" and (line := late_start(sampler, self.schedule)):
            log.warning("%s", line)
        chosen, guided_by = request.guidance, "request"
        if isinstance(chosen, RunGuidance):
            chosen, guided_by = self._own_guidance(request, chosen), "run"
        guidance = ready(chosen, self)
        rows = self._per_image(request, sampler, guidance, weights)
        facts = {"sampler": settings(sampler) | {"name": sampler_name(sampler)}, "guidance": guidance.facts}
        task = task_of(request, rows, facts | {"sampler_from": chosen_by, "guidance_from": guided_by})
        if rows.labels is not None and rows.known_labels is None:
            names = named(self.class_names if guidance.class_names is None else guidance.class_names, LISTED)
            log.info("drawn without a class and without guidance; label=CLASS sets one: %s", names)
        return task

    def shown(self, job: Job) -> Config:
        config = dict(super().shown(job))
        sampler, guidance = ({k: v for k, v in config[name].items() if k != "_target_"} for name in GROUPS)
        if config["sampler"]["_target_"] == RUN_SAMPLER:
            own = RunSampler(**sampler)
            config["sampler"] = own.node(self.config) | {"from": CHANGED if own.changes else "the run"}
        if config["guidance"]["_target_"] == RUN_GUIDANCE:
            chosen = RunGuidance(**guidance)
            node = chosen.node(self.config, self.can_be_guided)
            config["guidance"] = node | {"from": CHANGED if chosen.changes else "the run"}
            if self.can_be_guided and _unlabelled(config) and chosen.scale in (None, 1):
                config["guidance"] = {"_target_": Unguided.__name__, "from": "a picture without a label"}
        return config

    def _own_guidance(self, request: Request, chosen: RunGuidance) -> Guidance:
        """That of the run; none for pictures whose class the user does not name."""
        if request.task in OF_PICTURES and not request.names_classes and chosen.scale in (None, 1):
            return Unguided()
        return chosen.of(self.config, self.can_be_guided, self.trusted)

    def bits_evaluator(self, options: BitsOptions, seed: int) -> DiffusionBits:
        return DiffusionBits(self.model, self.runtime.device, options, seed)

    def animation(self, request: Request, options: AnimationOptions) -> Callable[[Progress], Animation]:
        self.check_animation(options.kind)
        if options.kind == "forward":
            return partial(self._forward_animation, request, options)
        if options.kind == "denoise":
            return partial(denoising, self.plan(request), self.schedule, self.time_label, options)
        loop = PingPong.of(options.frames)
        return partial(interpolation, self.plan(request, loop.distinct), request, loop, options)

    def _forward_animation(self, request: Request, options: AnimationOptions, progress: Progress) -> Animation:
        """Held-out images turning into noise; the strip shows them at 0, 25, 50, 75 and 100 %."""
        images = to_float(RealImages(self, options.root, progress).examples(request.n, request.seed).pixels)
        strip = forward_strip(images[:8], self.schedule, request.seed, scale=options.scale)
        frames = forward_frames(
            images, self.schedule, options.frames, request.seed, self.time_label,
            scale=options.scale, spacing=options.spacing,
        )  # fmt: skip
        return Animation("forward", frames, strip)

    def _per_image(
        self, request: Request, sampler: Sampler, guidance: ReadyGuidance, weights: Tensor | None
    ) -> PerImageSettings:
        """The seed, class and interpolation weight of each image."""
        seeds, interpolated = request.image_seeds, request.between is not None and weights is None
        if request.task == "between_seeds":
            if request.seed:
                raise ConfigError(f"seed: not used with between=[SEED,SEED], got {request.seed}; leave it out")
            seeds = [0] * request.n if interpolated else seeds
        elif interpolated:
            seeds = [request.seed] * request.n
        per_image = request.interpolation_weights() if interpolated else None
        labels = self._labels(request, guidance, interpolated)
        if weights is not None:
            labels = None if labels is None else labels.repeat(len(weights))
            seeds, per_image = seeds * len(weights), weights.repeat_interleave(request.n)
        return PerImageSettings(
            self.model, self.shape, sampler, guidance.guidance, seeds, labels, per_image, self.values
        )

    def _labels(self, request: Request, guidance: ReadyGuidance, interpolated: bool) -> Tensor | None:
        """The class of each image, (n,); -1 = no class; None if neither model nor guidance use classes.

        The class of an input picture is unknown: without a label, variations are drawn without a class if the model was
        trained with label dropout. All images of an interpolation must have the same class.
        """
        names = self.class_names if guidance.class_names is None else guidance.class_names
        has_classes = self.conditional or guidance.class_names is not None
        if not request.names_classes:
            free = self.can_be_guided and guidance.plain
            if request.task in OF_PICTURES and free:
                return torch.full((request.n,), -1)
            if interpolated and has_classes:
                raise ConfigError("label: an interpolation needs a class; set label=CLASS")
        if interpolated and len(request.labels or []) > 1:
            raise ConfigError("labels: an interpolation has a single class; set label=CLASS")
        if request.names_classes and not has_classes and not self.class_names:
            raise ConfigError("label: the pictures of this run have no classes; leave it out")
        if request.names_classes and not has_classes:
            raise ConfigError(
                "label: this model is not class-conditional; train another run with model.class_conditional=true, "
                "or use guidance=classifier"
            )
        return request.classes(names) if has_classes else None


def _unlabelled(config: Config) -> bool:
    """Whether the keys of a request start from a picture whose class is not named."""
    between = config.get("between") or [0]
    pictures = bool(config.get("init")) or isinstance(between[0], str)
    return pictures and config.get("label") is None and config.get("labels") is None
