"""Bits per dimension of a checkpoint on real images."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..data.images import Images, to_float
from ..diffusion import ode
from ..diffusion.denoiser import Denoise
from ..diffusion.guidance import Unguided
from ..diffusion.likelihood import Bound, in_bits, variational_bound
from ..diffusion.noise import ImageNoise
from ..diffusion.posterior import Variance
from ..diffusion.target import Prediction
from ..errors import ConfigError, NonFiniteError
from ..progress import Progress
from ..runs.load import Loaded

STREAMS = 2**40
"""Between the seeds of the bound's noise and those of the ODE's: more than there are images."""


@dataclass(frozen=True, kw_only=True)
class BitsOptions:
    """See conf/eval.yaml. Raises ValueError for a number out of range, named first."""

    steps: int | None = None
    terms: int | None = None
    variance: Literal["auto", "beta", "beta_tilde", "learned"] = "auto"
    clip: bool = True
    ode_steps: int = 50
    probes: int = 1
    importance_samples: int = 50

    def __post_init__(self) -> None:
        for name, value in (("ode_steps", self.ode_steps), ("probes", self.probes)):
            if value < 0:
                raise ValueError(f"{name}: must be at least 0, got {value}")
        if self.importance_samples < 1:
            raise ValueError(f"importance_samples: must be at least 1, got {self.importance_samples}")


class Figure(NamedTuple):
    """A mean over images and its standard error (None for a single image)."""

    mean: float
    error: float | None

    @classmethod
    def of(cls, values: Tensor) -> "Figure":
        n = len(values)
        return cls(float(values.mean()), float(values.std() / math.sqrt(n)) if n > 1 else None)


class Bits(NamedTuple):
    """Bits per dimension. figures: `bound`, its parts `prior`, `denoising`, `reconstruction`, and `ode`.

    times, each: t of every term that was looked at, and its mean over the images that looked.
    """

    figures: dict[str, Figure]
    times: Tensor
    each: Tensor


@dataclass(frozen=True)
class Judge:
    """How a checkpoint is judged. The k-th image meets noise of `seed` + k.

    Raises:
        ConfigError: options that do not suit the model.
    """

    loaded: Loaded
    options: BitsOptions
    seed: int

    def __post_init__(self) -> None:
        if self.variance == "learned" and not self.loaded.model.learned_variance:
            raise ConfigError("bpd.variance: this model has not learned one; use beta or beta_tilde")
        if not min(2, self.steps) <= self.terms <= self.steps:
            raise ConfigError(f"bpd.terms: must be between 2 and the bound's {self.steps}, got {self.terms}; or null")

    @property
    def variance(self) -> Variance:
        if self.options.variance == "auto":
            return "learned" if self.loaded.model.learned_variance else "beta"
        return self.options.variance

    @cached_property
    def times(self) -> Tensor:
        schedule, steps = self.loaded.model.schedule, self.options.steps
        steps = getattr(schedule, "steps", 1000) if steps is None else steps
        try:
            return schedule.times(steps)
        except ValueError as error:
            raise ConfigError(f"bpd.{error}") from error

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    @property
    def terms(self) -> int:
        return self.steps if self.options.terms is None else self.options.terms

    def __call__(self, images: Images, batch_size: int, progress: Progress) -> Bits:
        """Raises NonFiniteError when the network says something that is no number."""
        bounds, odes, done = [], [], 0
        total = self.protocol(len(images), batch_size)["network_calls"]

        def tick() -> None:
            nonlocal done
            done += 1
            progress("network calls", done, total)

        for first in range(0, len(images), batch_size):
            rows = range(first, min(first + batch_size, len(images)))
            batch = images.subset(torch.tensor(rows))
            denoise = self._denoise(batch, tick)
            bounds.append(self._bound(denoise, batch.pixels, [self.seed + i for i in rows]))
            if self.options.ode_steps:
                odes.append(self._ode(denoise, batch.pixels, [STREAMS + self.seed + i for i in rows]))
        prior, terms, index = (torch.cat([getattr(b, name) for b in bounds]) for name in ("prior", "terms", "index"))
        bound = Bound(prior, terms, index, self.steps)
        looked, each = _by_term(bound)
        values = dict(_figures(bound, torch.cat(odes) if odes else None))
        return Bits({name: Figure.of(v) for name, v in values.items()}, self.times[looked], in_bits(each))

    def protocol(self, n: int, batch_size: int) -> dict[str, Any]:
        """What the figures depend on."""
        options, steps = self.options, self.options.ode_steps
        batches = math.ceil(n / batch_size) * (2 if self.loaded.model.self_condition else 1)
        return {
            "steps": self.steps,
            "terms": self.terms,
            "variance": self.variance,
            "clip": options.clip,
            "ode_steps": steps,
            "ode_earliest": ode.earliest_of(self.loaded.model.schedule) if steps else None,
            "probes": options.probes if steps else None,
            "network_calls": batches * (self.terms + ode.calls(steps)),
        }

    def _denoise(self, batch: Images, tick: Callable[[], None]) -> Denoise:
        """A network that conditions on itself is shown its own first reading, as in training. tick: at each call."""
        model, device = self.loaded.model, self.loaded.runtime.device
        guided = Unguided()(model, batch.labels.to(device) if self.loaded.conditional else None)

        def denoise(x_t: Tensor, t: Tensor) -> Prediction:
            hint = None
            if model.self_condition:
                hint = guided(x_t, t).x0
                tick()
            tick()
            return guided(x_t, t, hint=hint)

        return denoise

    def _bound(self, denoise: Denoise, pixels: Tensor, seeds: Sequence[int]) -> Bound:
        schedule = self.loaded.model.schedule

        def limited(x_t: Tensor, t: Tensor) -> Prediction:
            prediction = denoise(x_t, t)
            return prediction._replace(x0=prediction.x0.clamp(-1, 1)) if self.options.clip else prediction

        x0 = to_float(pixels).to(self.loaded.runtime.device)
        with torch.no_grad():
            found = variational_bound(limited, schedule, x0, ImageNoise(seeds), self.times, self.variance, self.terms)
        return Bound(found.prior.cpu().double(), found.terms.cpu().double(), found.index.cpu(), found.count)

    def _ode(self, denoise: Denoise, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """(B,) bits per dimension."""
        noise = ImageNoise(seeds)
        u = torch.special.ndtr(noise(torch.empty(pixels.shape)))
        x = ode.dequantized(pixels, u).to(self.loaded.runtime.device)
        schedule, options = self.loaded.model.schedule, self.options
        log_p = ode.log_likelihood(denoise, schedule, x, steps=options.ode_steps, probes=options.probes, noise=noise)
        return ode.bits_per_dimension(log_p.cpu().double(), x[0].numel())


def _figures(bound: Bound, ode_bits: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """(N,) bits per dimension under each name. Raises NonFiniteError."""
    values = {name: in_bits(getattr(bound, name)) for name in ("prior", "denoising", "reconstruction")}
    values = {"bound": in_bits(bound.total), **values}
    for name, value in (values if ode_bits is None else {**values, "ode": ode_bits}).items():
        if not bool(value.isfinite().all()):
            raise NonFiniteError(f"bpd: {name} is not finite; use precision=fp32, or an earlier checkpoint")
        yield name, value


def _by_term(bound: Bound) -> tuple[Tensor, Tensor]:
    """Which terms were looked at, and the mean of each over the images that did."""
    index = bound.index.flatten()
    counts = torch.bincount(index, minlength=bound.count)
    sums = torch.zeros(bound.count, dtype=torch.float64).index_add(0, index, bound.terms.flatten())
    looked = counts.nonzero()[:, 0]
    return looked, (sums / counts)[looked]
