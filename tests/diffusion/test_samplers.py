"""Samplers on models whose exact distribution is known."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.generate import generate
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.samplers import DDIM, DDPM, DPMpp2M, DPMpp2MSDE, Euler, Heun, Sampler, Stepper, UniPC
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import Epsilon, Prediction

SHAPE = (1, 2, 2)


class Gaussian:
    """The exact denoiser of x_0 ~ N(mean, variance): E[x_0 | x_t] (a linear function of x_t)."""

    def __init__(self, schedule: Schedule, mean: float, variance: float):
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
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
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


def test_the_variances_equal_those_of_the_paper() -> None:
    """After one step from a known x_t, the standard deviation is sqrt(beta_t) or sqrt(beta_tilde_t)."""
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
    assert len(calls) == len(frames) - 2  # N steps, N + 1 frames, no noise in the last step
    assert torch.equal(frames[-1].x, frames[-1].x0)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_noise_at_the_end_has_variance_beta_1(variance: str) -> None:
    """Also for beta_tilde, as beta_tilde_1 is 0. Everything before the last step is the same."""
    schedule = LinearSchedule(steps=10, beta_start=0.04, beta_end=0.3)
    x, denoise = torch.full((100_000,), 0.5, dtype=torch.float64), Gaussian(schedule, 0.0, 1.0)
    plain = list(DDPM(variance=variance)(denoise, schedule, x, _normal(6)))  # type: ignore[arg-type]
    noisy = list(DDPM(variance=variance, noise_at_end=True)(denoise, schedule, x, _normal(6)))  # type: ignore[arg-type]
    assert all(torch.equal(a.x, b.x) for a, b in zip(plain[:-1], noisy[:-1], strict=True))
    added = noisy[-1].x - plain[-1].x
    assert float(added.mean()) == pytest.approx(0, abs=0.003)
    assert float(added.var()) == pytest.approx(0.04, rel=0.02)


def test_ddim_is_deterministic_and_draws_nothing() -> None:
    def never(like: Tensor) -> Tensor:
        raise AssertionError("eta = 0 needs no noise")

    schedule = CosineSchedule()
    x = torch.randn(8, dtype=torch.float64)
    first, second = (list(DDIM(steps=20)(Gaussian(schedule, 0, 1), schedule, x, never))[-1].x for _ in range(2))
    assert torch.equal(first, second)


def test_clipping_keeps_the_estimate_in_range() -> None:
    schedule = LinearSchedule()
    distant = Gaussian(schedule, mean=5.0, variance=0.1)  # its x0 is far outside [-1, 1]
    x = torch.randn(16, dtype=torch.float64)
    for sampler in (DDPM(steps=20), DDIM(steps=20)):
        assert all(float(f.x0.max()) <= 1 for f in sampler(distant, schedule, x, _normal(0)))
        unclipped = type(sampler)(steps=20, clip=False)
        assert any(float(f.x0.max()) > 1 for f in unclipped(distant, schedule, x, _normal(0)))


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
    [
        (lambda: DDIM(eta=1.5), "eta"),
        (lambda: DDIM(steps=0), "steps"),
        (lambda: DDPM(steps=-1), "steps"),
        (lambda: DDIM(threshold=1.5), "threshold"),
        (lambda: UniPC(order=4), "order"),
        (lambda: Euler(s_churn=-1), "s_churn"),
        (lambda: Heun(s_tmin=2, s_tmax=1), "s_tmax"),
    ],
)
def test_values_out_of_range_are_named(make, name: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()


STARTS: dict[str, Schedule] = {
    "edm": EDMSchedule(),
    "flow": FlowSchedule(),
    "linear": LinearSchedule(),
    "cosine": CosineSchedule(),
    "zero_terminal_snr": LinearSchedule(zero_terminal_snr=True),
}
MIXTURE = GaussianMixture.of([1.0], [[0.3]], [0.5])


def quantiles(n: int, schedule: Schedule) -> Tensor:
    """Quantiles of x_1 (n,1) of the mixture, so that deterministic samplers have no sampling error."""
    alpha, sigma = schedule(torch.ones((), dtype=torch.float64))
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]
    return alpha * 0.3 + (alpha.square() * 0.25 + sigma.square()).sqrt() * z


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize(
    ("sampler", "tolerance"),
    [
        (DDPM(steps=200, variance="beta_tilde", clip=False), 0.06),
        (DDPM(steps=200, variance="beta", clip=False), 0.06),
        (DDIM(steps=40, clip=False), 0.09),
        (DDIM(steps=200, eta=1.0, clip=False), 0.06),
        (Euler(steps=40, clip=False), 0.09),
        (Euler(steps=200, s_churn=10, s_noise=1.003, clip=False), 0.06),
        (Heun(steps=160, clip=False), 0.015),  # cosine starts at sigma / alpha = 2e4 and needs this many
        (Heun(steps=160, s_churn=20, clip=False), 0.03),
        (DPMpp2M(steps=40, clip=False), 0.015),
        (DPMpp2MSDE(steps=80, clip=False), 0.04),
        (UniPC(steps=40, order=1, clip=False), 0.05),
        (UniPC(steps=40, clip=False), 0.015),
        (UniPC(steps=40, order=3, clip=False), 0.015),
    ],
)
def test_every_sampler_on_every_schedule(sampler: Sampler, tolerance: float, name: str) -> None:
    schedule = STARTS[name]
    frames = list(sampler(Oracle(MIXTURE, schedule), schedule, quantiles(20_000, schedule), _normal(7)))
    assert all(frame.x.isfinite().all() and frame.x0.isfinite().all() for frame in frames)
    assert float(frames[-1].x.mean()) == pytest.approx(0.3, abs=0.015)
    assert float(frames[-1].x.std()) == pytest.approx(0.5, rel=tolerance)


@pytest.mark.parametrize("name", STARTS)
def test_any_number_of_steps_is_finite(name: str) -> None:
    """The first, the second and the last step have infinite terms."""
    schedule = STARTS[name]
    every: list[Callable[..., Sampler]] = [
        DDIM,
        Euler,
        Heun,
        DPMpp2M,
        DPMpp2MSDE,
        UniPC,
        partial(UniPC, order=1),
        partial(UniPC, order=3),
    ]
    for steps in (1, 2, 3, 4):
        for make in every:
            sampler = make(steps=steps, clip=False)
            frames = list(sampler(Oracle(MIXTURE, schedule), schedule, quantiles(16, schedule), _normal(8)))
            assert len(frames) == steps + 1 and all(frame.x.isfinite().all() for frame in frames)
            # the last step is of first order: it returns the estimate of x0
            assert torch.allclose(frames[-1].x, frames[-2].x0, atol=1e-12)


@pytest.mark.parametrize(
    "sampler", [DDPM(steps=9), DDIM(steps=9), Euler(steps=9), Heun(steps=9), DPMpp2M(steps=9), UniPC(steps=9)]
)
@pytest.mark.parametrize("name", STARTS)
def test_calls_are_counted(sampler: Stepper, name: str) -> None:
    schedule, calls = STARTS[name], []
    oracle = Oracle(MIXTURE, schedule)

    def counted(x_t: Tensor, t: Tensor) -> Prediction:
        calls.append(float(t))
        return oracle(x_t, t)

    list(sampler(counted, schedule, quantiles(4, schedule), _normal(0)))  # type: ignore[operator]
    assert len(calls) == sampler.calls(schedule) == (17 if isinstance(sampler, Heun) else 9)


def test_churn_raises_the_noise_as_in_the_paper() -> None:
    """EDM, where sigma is 80 t: gamma = s_churn / steps within [s_tmin, s_tmax], never above sqrt(2) - 1 or t = 1."""
    schedule = EDMSchedule()
    calls: list[tuple[float, float]] = []
    drawn: list[Tensor] = []
    x = torch.zeros(200_000, 1, dtype=torch.float64)

    def denoise(x_t: Tensor, t: Tensor) -> Prediction:
        calls.append((80 * float(t), float(x_t.std())))
        return Prediction(x_t, torch.zeros_like(x_t))  # x does not change

    def noise(like: Tensor) -> Tensor:
        drawn.append(torch.randn(like.shape, generator=torch.Generator().manual_seed(len(drawn)), dtype=like.dtype))
        return drawn[-1]

    sampler = Euler(steps=10, s_churn=2.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.1, clip=False)
    levels = [80 * float(t) for t in sampler.times(schedule)[:-1]]
    list(sampler(denoise, schedule, x, noise))
    variance = 0.0
    for level, (called, std) in zip(levels, calls, strict=True):
        up = 1.2 if 0.05 <= level <= 50 else 1.0
        assert called == pytest.approx(up * level, rel=1e-9)
        variance += (up**2 - 1) * level**2 * 1.1**2
        assert std == pytest.approx(variance**0.5, rel=0.01)
    assert len(drawn) == sum(0.05 <= level <= 50 for level in levels)

    calls.clear()
    list(Euler(steps=10, s_churn=1e6, clip=False)(denoise, schedule, x[:4], noise))
    assert [called for called, _ in calls] == pytest.approx([min(2**0.5 * level, 80) for level in levels], rel=1e-9)


def test_deterministic_first_order_samplers_are_equal() -> None:
    """DDIM at eta = 0, Euler and UniPC's predictor take the same step; so does dpmpp_2m in its first and last."""
    schedule = CosineSchedule()
    oracle, x = Oracle(MIXTURE, schedule), quantiles(16, schedule)
    ddim, euler = (list(make(steps=9, clip=False)(oracle, schedule, x, _normal(0))) for make in (DDIM, Euler))
    assert all(torch.allclose(a.x, b.x, atol=1e-12) for a, b in zip(ddim, euler, strict=True))
    second, pc = (list(make(steps=2, clip=False)(oracle, schedule, x, _normal(0))) for make in (DPMpp2M, DDIM))
    assert torch.allclose(second[-1].x, pc[-1].x, atol=1e-12)
