"""The common base of all opened runs that draw samples."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..build import check_positive, check_seed, checked
from ..data.images import Images
from ..data.source import Split
from ..data.survey import BYTE
from ..diffusion.samplers import Frame
from ..errors import CheckpointError, ConfigError
from ..hardware.options import CompileSetting, Precision
from ..progress import Progress, silent
from ..runs.assemble import Config
from ..runs.checkpoint import Checkpoint
from ..runs.images import RealImages
from ..runs.job import Job
from ..runs.load import LoadedRun, Weights, load
from .animation import Animation, AnimationOptions
from .batching import Batching, NetworkCall, Size
from .bits import Bits, BitsEvaluator, BitsOptions
from .pipeline import Drawn, Pipeline
from .request import Request
from .samples import Dtype, Samples
from .task import Task

ANIMATION_KEYS = {f.name for f in fields(AnimationOptions)}
log = logging.getLogger(__name__)


class Generator(LoadedRun, ABC):
    """An opened run that draws samples. Each family implements the abstract methods."""

    ignores: ClassVar[tuple[str, ...]] = ()
    """Keys of sample, gif and eval that it does not use."""
    animations: ClassVar[tuple[str, ...]] = ()
    """Kinds of `ddpm gif` that it supports."""
    instead: ClassVar[str] = "ddpm sample"
    """What to use instead of an unsupported kind."""

    @abstractmethod
    def plan(self, request: Request, weights: Tensor | None = None) -> Task:
        """The task that draws `request`; checked now, drawn later.

        Args:
            weights: (K,) for an animated interpolation: draw n interpolations, n images for each weight in turn.

        Raises:
            ConfigError: settings that do not fit the model.
            DataError: an unreadable picture.
        """

    @abstractmethod
    def bits_evaluator(self, options: BitsOptions, seed: int) -> BitsEvaluator:
        """Raises ConfigError for options that do not fit the model."""

    def animation(self, request: Request, options: AnimationOptions) -> Callable[[Progress], Animation]:
        """A function that draws the animation of `ddpm gif`; checked now.

        Raises:
            ConfigError, DataError: as `plan`; also for an unsupported kind of animation.
        """
        self.check_animation(options.kind)
        raise NotImplementedError

    @property
    def network_call(self) -> NetworkCall | None:
        """A call of the network with a number of images, for a model that is sampled step by step; else None."""
        return None

    def check_animation(self, kind: str) -> None:
        """Raises ConfigError for an unsupported kind."""
        if kind not in self.animations:
            raise ConfigError(f"kind: {kind} is not available for {self.name}; use {self.instead}")

    def shown(self, job: Job) -> Config:
        """The part of the config to show. Logs a line when the user chose a sampler for a model that ignores it.

        `plan` refuses other unused keys, unless they have their default.
        """
        if "sampler" in self.ignores and job.sets("sampler"):
            log.warning("sampler: ignored; this model samples in one pass")
        return {key: value for key, value in job.config.items() if key not in self.ignores}

    def pipeline(
        self, request: Request, batch_size: Size = "auto", compile: CompileSetting = "auto", dtype: Dtype = "uint8"
    ) -> Pipeline:
        """The pipeline that draws `request`: checked now, drawn when called. Raises what `plan` raises."""
        task = self.plan(request)
        batching = Batching(self.run, self.network_call, task.n, task.calls, batch_size)
        drawn = Drawn(self.facts, self.class_names, request.between is not None, self.values.ends or BYTE, dtype)
        return Pipeline(task, batching, compile, drawn)

    @checked
    def sample(
        self,
        request: Request | None = None,
        *,
        batch_size: Size = "auto",
        compile: CompileSetting = "auto",
        dtype: Dtype = "uint8",
        progress: Progress = silent,
        **settings: Any,
    ) -> Samples:
        """Draw all images of a request, which can be given by its fields: sample(n=16, label=3, seed=0).

        Raises:
            ConfigError, DataError: as `Request` and `plan`.
            NonFiniteError: the model returns NaN or infinity.
        """
        return self.pipeline(_request(request, settings), batch_size, compile, dtype)(progress)

    @checked
    def draw(self, request: Request, batch_size: Size = "auto", progress: Progress = silent) -> Iterator[Samples]:
        """Draw the images of a request batch by batch, so that only one batch is in memory."""
        return self.pipeline(request, batch_size, False).batches(progress)

    @checked
    def frames(self, request: Request | None = None, **settings: Any) -> Iterator[Frame]:
        """x_t and the x0 estimate of all images of a request at each time, from noise to image, as one batch.

        x and x0 are (N,C,H,W) on the model's device; t is in [0, 1] and decreases.
        """
        task = self.plan(_request(request, settings))
        return task.frames(range(task.n))

    def animate(self, *, progress: Progress = silent, **settings: Any) -> Animation:
        """Draw an animation, given by fields of `AnimationOptions` and `Request`: animate(kind="denoise", n=9)."""
        options = AnimationOptions(**{k: v for k, v in settings.items() if k in ANIMATION_KEYS})
        request = Request(**{"n": 16} | {k: v for k, v in settings.items() if k not in ANIMATION_KEYS})
        options.check(request)
        return self.animation(request, options)(progress)

    @checked
    def bits(
        self,
        images: Images | np.ndarray | Tensor,
        options: BitsOptions | None = None,
        *,
        seed: int = 0,
        batch_size: int = 64,
        progress: Progress = silent,
    ) -> Bits:
        """Bits per dimension of real images.

        Args:
            images: an array is uint8 (N,H,W,C), without classes.

        Raises:
            ConfigError: options that do not fit the model.
            NonFiniteError: a value is NaN or infinite.
        """
        check_seed(seed)
        check_positive(batch_size=batch_size)
        evaluator = self.bits_evaluator(options or BitsOptions(), seed)
        with torch.inference_mode(False), torch.enable_grad():  # the ODE needs derivatives, whatever the caller set
            return evaluator(_as_images(images, self.shape), batch_size, progress)

    @checked
    def real_images(self, n: int | None = None, split: Split = "val", root: str | None = None, seed: int = 0) -> Images:
        """Images of the dataset that the run was trained on, see `runs.images.RealImages`."""
        check_seed(seed)
        check_positive(n=1 if n is None else n)
        return RealImages(self, root, silent).held_out(split, n, seed)


def load_generator(
    ckpt: str | Checkpoint, weights: Weights, device: str, precision: Precision, trust: Sequence[str]
) -> Generator:
    """The generator at `ckpt`. Raises what `load` raises, and CheckpointError when the model draws no samples."""
    run = load(ckpt, weights=weights, device=device, precision=precision, trust=trust)
    if not isinstance(run, Generator):
        raise CheckpointError(f"{run.path}: is {run.name}, which draws no samples; name a run of a diffusion model")
    return run


def _request(request: Request | None, settings: Mapping[str, Any]) -> Request:
    if request is not None and settings:
        raise ConfigError(f"{next(iter(settings))}: cannot be combined with a request; set it in the request")
    return request or Request(**settings)


def _as_images(images: Images | np.ndarray | Tensor, shape: tuple[int, ...]) -> Images:
    """The images to measure. Raises ConfigError if they are not images of this shape, (C,H,W)."""
    if isinstance(images, Images):
        found = tuple(images.shape)
    else:
        array = torch.as_tensor(images)
        if array.dtype != torch.uint8 or array.ndim != 4 or not len(array):
            got = f"{array.dtype} {tuple(array.shape)}"
            raise ConfigError(f"images: must be uint8 (N,H,W,C), with values from 0 to 255, got {got}")
        found = (array.shape[3], *array.shape[1:3])
    if found != tuple(shape):
        one, other = ("x".join(map(str, (h, w, c))) for c, h, w in (found, shape))
        raise ConfigError(f"images: are {one}, but the model was trained on {other}; resize them")
    if isinstance(images, Images):
        return images
    pixels = array.permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.zeros(len(pixels), dtype=torch.int64), ())
