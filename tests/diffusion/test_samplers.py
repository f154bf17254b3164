"""Samplers on a model whose answer is known."""

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.generate import generate
from ddpm_cli.diffusion.samplers import DDIM, DDPM, Sampler
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.diffusion.target import Epsilon, Prediction

SHAPE = (1, 2, 2)


class Gaussian:
    """The exact denoiser of x_0 ~ N(mean, variance): E[x_0 | x_t] (a linear function of x_t)."""

    def __init__(self, schedule: LinearSchedule, mean: float, variance: float):
        self.schedule, self.mean, self.variance = schedule, mean, variance

    def __call__(self, x_t: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = self.schedule(t)
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        x0 = self.mean + gain * (x_t - alpha * self.mean)
        return Prediction(x0, (x_t - alpha * x0) / sigma)


def final(sampler: Sampler, denoise: Gaussian, x: Tensor, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    frames = list(
        sampler(denoise, denoise.schedule, x, lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype))
    )
    assert len(frames) == sampler.length(denoise.schedule) + 1
    assert frames[-1].t == 0
    return frames[-1].x


@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    [
        (DDPM(clip=False, variance="beta_tilde"), 0.02),
        (DDPM(clip=False, variance="beta"), 0.02),
        (DDIM(steps=500, clip=False), 0.02),
        (DDIM(steps=500, eta=1.0, clip=False), 0.02),
    ],
)
def test_an_exact_denoiser_gives_the_exact_distribution(sampler: Sampler, tolerance: float) -> None:
    schedule = LinearSchedule()
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    samples = final(sampler, Gaussian(schedule, mean=0.3, variance=0.25), x)
    assert abs(float(samples.mean()) - 0.3) < 0.01
    assert abs(float(samples.std()) / 0.5 - 1) < tolerance


def test_ddim_with_eta_1_is_the_ddpm_step() -> None:
    """eq. 16 of DDIM at eta = 1 is beta-tilde, so every step equals the DDPM posterior step from the same noise."""
    schedule = LinearSchedule()
    denoise = Gaussian(schedule, 0.1, 0.5)
    x = torch.randn(64, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    g1, g2 = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    one = DDIM(steps=100, eta=1.0)(
        denoise, schedule, x, lambda like: torch.randn(like.shape, generator=g1, dtype=like.dtype)
    )
    two = DDPM(steps=100, variance="beta_tilde")(
        denoise, schedule, x, lambda like: torch.randn(like.shape, generator=g2, dtype=like.dtype)
    )
    for a, b in zip(one, two, strict=True):
        assert a.t == b.t
        assert torch.allclose(a.x, b.x, atol=1e-10) and torch.allclose(a.x0, b.x0, atol=1e-10)


def test_the_variances_differ_as_the_paper_says() -> None:
    """One step from a known x_t: the spread is sqrt(beta_t) or sqrt(beta_tilde_t)."""
    schedule = LinearSchedule(steps=10, beta_start=0.01, beta_end=0.3)
    x, denoise = torch.full((200_000,), 0.5, dtype=torch.float64), Gaussian(schedule, 0.0, 1.0)
    beta, cumulative = schedule.betas[9], schedule.alphas_cumprod
    expected = {"beta": beta, "beta_tilde": (1 - cumulative[9]) / (1 - cumulative[10]) * beta}
    for name, variance in expected.items():
        frames = DDPM(variance=name)(denoise, schedule, x, _normal(6))  # type: ignore[arg-type]
        next(frames)
        assert float(next(frames).x.var() / variance) == pytest.approx(1, abs=0.02)


def _normal(seed: int):  # type: ignore[no-untyped-def]
    g = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype)


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(eta=1.0)])
def test_the_last_step_adds_no_noise(sampler: Sampler) -> None:
    schedule = LinearSchedule()
    calls = []

    def noise(like: Tensor) -> Tensor:
        calls.append(1)
        return torch.zeros_like(like)

    frames = list(sampler(Gaussian(schedule, 0, 1), schedule, torch.randn(4, dtype=torch.float64), noise))
    assert len(calls) == len(frames) - 2  # N steps, N + 1 frames, the last step silent
    assert torch.equal(frames[-1].x, frames[-1].x0)


def test_ddim_is_deterministic_and_draws_nothing() -> None:
    def never(like: Tensor) -> Tensor:
        raise AssertionError("eta = 0 needs no noise")

    schedule = CosineSchedule()
    x = torch.randn(8, dtype=torch.float64)
    first, second = (list(DDIM(steps=20)(Gaussian(schedule, 0, 1), schedule, x, never))[-1].x for _ in range(2))
    assert torch.equal(first, second)


def test_clipping_keeps_the_estimate_in_range() -> None:
    schedule = LinearSchedule()
    wild = Gaussian(schedule, mean=5.0, variance=0.1)  # its x0 is far outside [-1, 1]
    x = torch.randn(16, dtype=torch.float64)
    for sampler in (DDPM(steps=20), DDIM(steps=20)):
        assert all(float(f.x0.max()) <= 1 for f in sampler(wild, schedule, x, _normal(0)))
        unclipped = type(sampler)(steps=20, clip=False)
        assert any(float(f.x0.max()) > 1 for f in unclipped(wild, schedule, x, _normal(0)))


class Backbone(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        return self.weight * x.tanh() + 0 * c[:, None, None, None]


@pytest.mark.parametrize("sampler", [DDPM(steps=10), DDIM(steps=10, eta=0.5)])
def test_an_image_does_not_depend_on_its_batch(sampler: Sampler) -> None:
    model = Denoiser(Backbone(), LinearSchedule(), Epsilon())
    whole = torch.cat(list(generate(model, sampler, SHAPE, range(7), batch_size=7)))
    parts = torch.cat(list(generate(model, sampler, SHAPE, range(7), batch_size=3)))
    alone = torch.cat(list(generate(model, sampler, SHAPE, [5], batch_size=1)))
    assert torch.allclose(whole, parts, atol=1e-6)
    assert torch.allclose(whole[5:6], alone, atol=1e-6)
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda: DDIM(eta=1.5), "eta"), (lambda: DDIM(steps=0), "steps"), (lambda: DDPM(steps=-1), "steps")],
)
def test_values_out_of_range_are_named(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()
