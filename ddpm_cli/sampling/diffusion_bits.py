"""Bits per dimension of real images under a diffusion model."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ..data.images import Images, to_float
from ..diffusion import ode
from ..diffusion.denoiser import Denoise, Denoiser
from ..diffusion.guidance import Unguided
from ..diffusion.likelihood import Bound, in_bits, variational_bound
from ..diffusion.noise import ImageNoise
from ..diffusion.posterior import Variance
from ..diffusion.target import Prediction
from ..errors import ConfigError, NonFiniteError
from ..progress import Progress
from .bits import ODE_SEEDS, Bits, BitsOptions, MeanError
from .kept import KeptValues


@dataclass(frozen=True)
class DiffusionBits:
    """The variational bound and the likelihood by the probability-flow ODE. Image k uses noise of `seed` + k.

    Values: `bound`, its parts `prior`, `denoising`, `reconstruction`, and `ode`.

    Raises:
        ConfigError: options that do not fit the model.
    """

    model: Denoiser
    device: torch.device
    options: BitsOptions
    seed: int

    def __post_init__(self) -> None:
        if self.variance == "learned" and not self.model.learned_variance:
            raise ConfigError("bpd.variance: this model has no learned variance; use beta or beta_tilde")
        if not min(2, self.steps) <= self.terms <= self.steps:
            raise ConfigError(
                f"bpd.terms: must be null or between 2 and {self.steps}, the steps of the bound, got {self.terms}"
            )

    @property
    def variance(self) -> Variance:
        if self.options.variance == "auto":
            return "learned" if self.model.learned_variance else "beta"
        return self.options.variance

    @cached_property
    def times(self) -> Tensor:
        schedule, steps = self.model.schedule, self.options.steps
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

    def __call__(self, images: Images, batch_size: int, progress: Progress, kept: KeptValues | None = None) -> Bits:
        """Raises NonFiniteError when the network returns NaN or infinity."""
        kept, done = kept or KeptValues(), 0
        protocol = self.protocol(len(images), batch_size)
        total = protocol["network_calls"]
        batches = [range(i, min(i + batch_size, len(images))) for i in range(0, len(images), batch_size)]

        def tick() -> None:
            nonlocal done
            done += 1
            progress("network calls", done, total)

        parts: list[dict[str, Tensor]] = []
        for i, rows in enumerate(batches):
            parts.append(kept.batch(rows, partial(self._measured, images, rows, tick)))
            done = (i + 1) * total // len(batches)
        prior, terms, index = (torch.cat([part[name] for part in parts]) for name in ("prior", "terms", "index"))
        bound = Bound(prior, terms, index, self.steps)
        evaluated, each = _by_term(bound)
        odes = torch.cat([part["ode"] for part in parts]) if self.options.ode_steps else None
        values = {name: MeanError.of(v) for name, v in _values(bound, odes)}
        return Bits(values, self.times[evaluated], in_bits(each), protocol)

    def _measured(self, images: Images, rows: range, tick: Callable[[], None]) -> dict[str, Tensor]:
        """The parts of the bound, and the bits by the ODE, of each of the images `rows`."""
        batch = images.subset(torch.tensor(rows))
        denoise = self._denoise(batch, tick)
        bound = self._bound(denoise, batch.pixels, [self.seed + i for i in rows])
        values = {"prior": bound.prior, "terms": bound.terms, "index": bound.index}
        if self.options.ode_steps:
            values["ode"] = self._ode(denoise, batch.pixels, [ODE_SEEDS + self.seed + i for i in rows])
        return values

    def protocol(self, n: int, batch_size: int) -> dict[str, Any]:
        """The settings that the values depend on."""
        options, steps = self.options, self.options.ode_steps
        batches = math.ceil(n / batch_size) * (2 if self.model.self_condition else 1)
        return {
            "steps": self.steps,
            "terms": self.terms,
            "variance": self.variance,
            "clip": options.clip,
            "ode_steps": steps,
            "ode_earliest": ode.earliest_of(self.model.schedule) if steps else None,
            "probes": options.probes if steps else None,
            "network_calls": batches * (self.terms + ode.calls(steps)),
        }

    def _denoise(self, batch: Images, tick: Callable[[], None]) -> Denoise:
        """The denoiser to evaluate. With self-conditioning, the network gets its own first estimate, as in training.

        Args:
            tick: called at each network call.
        """
        model, device = self.model, self.device
        guided = Unguided()(model, batch.labels.to(device) if model.class_conditional else None)

        def denoise(x_t: Tensor, t: Tensor) -> Prediction:
            first = None
            if model.self_condition:
                first = guided(x_t, t).x0
                tick()
            tick()
            return guided(x_t, t, x0_estimate=first)

        return denoise

    def _bound(self, denoise: Denoise, pixels: Tensor, seeds: Sequence[int]) -> Bound:
        schedule = self.model.schedule

        def limited(x_t: Tensor, t: Tensor) -> Prediction:
            prediction = denoise(x_t, t)
            return prediction._replace(x0=prediction.x0.clamp(-1, 1)) if self.options.clip else prediction

        x0 = to_float(pixels).to(self.device)
        with torch.no_grad():
            bound = variational_bound(limited, schedule, x0, ImageNoise(seeds), self.times, self.variance, self.terms)
        return Bound(bound.prior.cpu().double(), bound.terms.cpu().double(), bound.index.cpu(), bound.count)

    def _ode(self, denoise: Denoise, pixels: Tensor, seeds: Sequence[int]) -> Tensor:
        """(B,) bits per dimension by the ODE."""
        noise = ImageNoise(seeds)
        u = torch.special.ndtr(noise(torch.empty(pixels.shape)))
        x = ode.dequantized(pixels, u).to(self.device)
        schedule, options = self.model.schedule, self.options
        log_p = ode.log_likelihood(denoise, schedule, x, steps=options.ode_steps, probes=options.probes, noise=noise)
        return ode.bits_per_dimension(log_p.cpu().double(), x[0].numel())


def _values(bound: Bound, ode_bits: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """(N,) bits per dimension of each image, by name. Raises NonFiniteError."""
    values = {name: in_bits(getattr(bound, name)) for name in ("prior", "denoising", "reconstruction")}
    values = {"bound": in_bits(bound.total), **values}
    for name, value in (values if ode_bits is None else {**values, "ode": ode_bits}).items():
        if not bool(value.isfinite().all()):
            raise NonFiniteError(f"bpd: {name} is not finite; use precision=fp32, or an earlier checkpoint")
        yield name, value


def _by_term(bound: Bound) -> tuple[Tensor, Tensor]:
    """The indices of the evaluated terms, and the mean of each over the images it was evaluated for."""
    index = bound.index.flatten()
    counts = torch.bincount(index, minlength=bound.count)
    sums = torch.zeros(bound.count, dtype=torch.float64).index_add(0, index, bound.terms.flatten())
    evaluated = counts.nonzero()[:, 0]
    return evaluated, (sums / counts)[evaluated]
