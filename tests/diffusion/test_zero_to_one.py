"""Diffusion of images in [0, 1], compared with a program that works in [0, 1] throughout."""

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.data.images import Batch
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.generate import denoise_of, run_sampler, start
from ddpm_cli.diffusion.posterior import posterior
from ddpm_cli.diffusion.samplers import DDIM, DDPM
from ddpm_cli.diffusion.schedule import LinearSchedule
from ddpm_cli.diffusion.target import X0, Epsilon, V
from ddpm_cli.diffusion.zero_to_one import ZeroToOne
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.training.randomness import StepRandom

STEPS = 50
SCHEDULE = LinearSchedule(steps=STEPS, beta_start=1e-3, beta_end=0.2)
BETA = torch.linspace(1e-3, 0.2, STEPS, dtype=torch.float64)
ABAR = torch.cumprod(1 - BETA, 0)


class Network(nn.Module):
    """A nonlinear function of image and index."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(1, 8, 3, padding=1).double(), nn.Conv2d(8, 1, 3, padding=1).double()

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None = None) -> Tensor:
        out: Tensor = self.two(torch.tanh(self.one(x) + 0.05 * c[:, None, None, None]))
        return out


def in_zero_to_one(network: Network, y: Tensor, noises: list[Tensor], clip: bool, at_end: bool) -> list[Tensor]:
    """The loop of Ho et al. 2020, algorithm 2, on y in [0, 1], in float64; sigma^2 = beta."""
    visited = [y]
    for k in reversed(range(STEPS)):
        eps = network(y, torch.full((len(y),), float(k), dtype=y.dtype))
        if clip:
            before = ABAR[k - 1] if k else torch.ones(())
            y0 = ((y - (1 - ABAR[k]).sqrt() * eps) / ABAR[k].sqrt()).clamp(0, 1)
            mean = (
                before.sqrt() * BETA[k] / (1 - ABAR[k]) * y0 + (1 - BETA[k]).sqrt() * (1 - before) / (1 - ABAR[k]) * y
            )
        else:
            mean = (y - BETA[k] / (1 - ABAR[k]).sqrt() * eps) / (1 - BETA[k]).sqrt()
        y = mean + BETA[k].sqrt() * noises.pop(0) if k or at_end else mean
        visited.append(y)
    return visited


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("at_end", [False, True])
def test_trajectories_equal_those_of_a_program_in_zero_to_one(clip: bool, at_end: bool) -> None:
    """With the same network and noise, x_t = 2 y_t - alpha_t, so the sample is 2 y - 1."""
    network = Network()
    model = Denoising(Epsilon(), zero_to_one=True).wrap(network, SCHEDULE)
    assert isinstance(model, Denoiser)
    g = torch.Generator().manual_seed(1)
    first, *noises = (torch.randn(3, 1, 5, 5, generator=g, dtype=torch.float64) for _ in range(STEPS + 1))
    unused = list(noises)
    sampler = DDPM(clip=clip, noise_at_end=at_end)
    x = 2 * first - ABAR[-1].sqrt()
    frames = list(run_sampler(denoise_of(model), model.schedule, sampler, x, lambda like: unused.pop(0)))
    with torch.no_grad():
        expected = in_zero_to_one(network, first, list(noises), clip, at_end)
    assert len(unused) == (0 if at_end else 1)
    alphas = torch.cat([ABAR.sqrt().flip(0), torch.ones(1)])
    for frame, y, alpha in zip(frames, expected, alphas, strict=True):
        torch.testing.assert_close(frame.x, 2 * y - alpha, atol=1e-5, rtol=0)
    assert float(expected[-1].std()) > 0.1


def test_the_loss_equals_that_of_a_program_in_zero_to_one() -> None:
    network, device = Network().double(), torch.device("cpu")
    batch = Batch(torch.linspace(-1, 1, 100, dtype=torch.float64).view(4, 1, 5, 5), torch.zeros(4, dtype=torch.int64))
    objective = Denoising(Epsilon(), label_dropout=0, zero_to_one=True)

    def rng() -> StepRandom:
        return StepRandom(0, 0, device, 4)

    loss = objective(objective.wrap(network, SCHEDULE), batch, rng()).value
    same = rng()
    index = (same.uniform() * STEPS).long()
    eps = same.normal(1, 5, 5)
    y = ABAR[index].sqrt().view(4, 1, 1, 1) * (batch.x + 1) / 2 + (1 - ABAR[index]).sqrt().view(4, 1, 1, 1) * eps
    torch.testing.assert_close(loss, (network(y, index.double()) - eps).square().mean(), atol=1e-5, rtol=0)
    plain = Denoising(Epsilon(), label_dropout=0)
    assert abs(float(plain(plain.wrap(network, SCHEDULE), batch, rng()).value.detach() - loss.detach())) > 1e-3


def test_the_schedule_has_twice_the_noise() -> None:
    twice = ZeroToOne(SCHEDULE)
    t = SCHEDULE.times(STEPS)
    (alpha, sigma), (same, double) = SCHEDULE(t), twice(t)
    assert torch.equal(alpha, same) and torch.equal(double, 2 * sigma)
    assert torch.equal(twice.times(10), SCHEDULE.times(10)) and torch.equal(twice.conditioning(t), t * STEPS - 1)
    torch.testing.assert_close(twice.time_of_noise_level(double / same), t)
    one = posterior(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:])
    four = posterior(same[:-1], double[:-1], same[1:], double[1:])
    for name, factor in (("of_x_t", 1), ("of_x0", 1), ("beta", 4), ("beta_tilde", 4)):
        torch.testing.assert_close(getattr(four, name), factor * getattr(one, name))
    assert float(start(twice, torch.ones(()))) == pytest.approx(2 * float(sigma[0]))
    assert twice.steps == STEPS and twice.unwrapped is twice


def test_ddim_equals_that_of_a_program_in_zero_to_one() -> None:
    """DDIM at eta = 0 follows the ODE, which does not depend on the coordinates."""
    network = Network()
    model = Denoising(Epsilon(), zero_to_one=True).wrap(network, SCHEDULE)
    first = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = 2 * first - ABAR[-1].sqrt()
    *_, last = run_sampler(denoise_of(model), model.schedule, DDIM(steps=STEPS, clip=False), x, torch.zeros_like)
    y = first
    with torch.no_grad():
        for k in reversed(range(STEPS)):
            eps = network(y, torch.full((2,), float(k), dtype=y.dtype))
            before = ABAR[k - 1] if k else torch.ones((), dtype=y.dtype)
            y = before.sqrt() * (y - (1 - ABAR[k]).sqrt() * eps) / ABAR[k].sqrt() + (1 - before).sqrt() * eps
    torch.testing.assert_close(last.x, 2 * y - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", [V(), X0()], ids=["v", "x0"])
def test_it_only_works_when_predicting_the_noise(target: V | X0) -> None:
    with pytest.raises(ValueError, match=r"^objective.zero_to_one: only works when predicting the noise"):
        Denoising(target, zero_to_one=True).wrap(Network(), SCHEDULE)


def test_it_needs_a_variance_preserving_schedule() -> None:
    with pytest.raises(ValueError, match=r"^objective.zero_to_one: needs alpha\^2"):
        Denoising(Epsilon(), zero_to_one=True).wrap(Network(), ZeroToOne(SCHEDULE))
