"""Editing tasks, compared with plain sampling and with a Gaussian whose conditional mean is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.editing import BetweenNoise, RePaint, Shortened, interpolate, moves, ping_pong, slerp, vary
from ddpm_cli.diffusion.generate import run_sampler, start
from ddpm_cli.diffusion.noise import ImageNoise
from ddpm_cli.diffusion.oracle import GaussianMixture, Oracle
from ddpm_cli.diffusion.samplers.base import Sampler
from ddpm_cli.diffusion.samplers.ddim import DDIM
from ddpm_cli.diffusion.samplers.ddpm import DDPM
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule

RHO, MEAN = 0.8, (0.2, -0.3)
PAIR = GaussianMixture(
    torch.ones(1, dtype=torch.float64),
    torch.tensor([MEAN], dtype=torch.float64),
    0.25 * torch.tensor([[[1.0, RHO], [RHO, 1.0]]], dtype=torch.float64),
)
"""Two pixels: E[x_2 | x_1] = m_2 + rho (x_1 - m_1), Var[x_2 | x_1] = 0.25 (1 - rho^2)."""
SCHEDULES = [CosineSchedule(), EDMSchedule(), FlowSchedule()]


def noise(n: int, seed: int = 0) -> tuple[Tensor, ImageNoise]:
    stream = ImageNoise(range(seed, seed + n))
    return stream.first((1, 1, 2), "cpu"), stream


def last(frames: object) -> Tensor:
    *_, frame = frames  # type: ignore[misc]
    x: Tensor = frame.x
    return x


def plain(schedule: Schedule, sampler: Sampler, seeds: list[int]) -> Tensor:
    stream = ImageNoise(seeds)
    return last(
        run_sampler(Oracle(PAIR, schedule), schedule, sampler, start(schedule, stream.first((1, 1, 2), "cpu")), stream)
    )


@pytest.mark.parametrize("schedule", [LinearSchedule(), *SCHEDULES])
@pytest.mark.parametrize(("strength", "kept"), [(1.0, 20), (0.6, 12), (0.05, 1), (1e-6, 1)])
def test_shortened_keeps_the_last_steps(schedule: Schedule, strength: float, kept: int) -> None:
    short = Shortened(schedule, strength)
    assert torch.equal(short.times(20), schedule.times(20)[-kept - 1 :])
    assert DDIM(steps=20).length(short) == kept
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    assert all(torch.equal(a, b) for a, b in zip(short(t), schedule(t), strict=True))
    assert torch.equal(short.conditioning(t), schedule.conditioning(t))
    assert short.variance_preserving == schedule.variance_preserving


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01])
def test_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match="^strength: "):
        Shortened(CosineSchedule(), strength)


def test_the_ends_and_norms_of_slerp() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64) for _ in "ab")
    assert torch.equal(slerp(a, b, 0.0), a) and torch.equal(slerp(a, b, 1.0), b)
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    for w in (0.2, 0.5, 0.9):
        x = slerp(a, b, w)
        assert torch.allclose(x.flatten(1).norm(dim=1), a.flatten(1).norm(dim=1))
        angle, whole = (
            torch.acos(torch.cosine_similarity(a.flatten(1), y.flatten(1))) for y in (x, b)
        )  # the speed is constant
        assert torch.allclose(angle, w * whole)


def test_slerp_accepts_a_weight_per_vector_and_parallel_vectors() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    x = slerp(a, b, torch.tensor([0.5, 0.25, 0.5, 0.5]))
    half = math.sqrt(0.5)
    assert torch.allclose(x, torch.tensor([[half, half], [1.5, 0.0], [0.0, 0.0], [0.0, 1.0]]), atol=1e-6)
    one = slerp(a[:1], b[:1], torch.tensor([0.0, 0.5, 1.0]))  # one pair, several weights
    assert torch.allclose(one, torch.tensor([[1.0, 0.0], [half, half], [0.0, 1.0]]), atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", [DDIM(steps=20, clip=False), DDPM(steps=20, clip=False)])
def test_full_strength_is_plain_sampling(schedule: Schedule, sampler: Sampler) -> None:
    image = torch.tensor([0.9, -0.9]).view(1, 1, 1, 2)
    varied = last(vary(Oracle(PAIR, schedule), schedule, sampler, image, 1.0, *noise(4)))
    assert torch.equal(varied, plain(schedule, sampler, [0, 1, 2, 3]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_lower_strength_stays_closer_to_the_image(schedule: Schedule) -> None:
    image = torch.tensor([0.9, -0.9]).view(1, 1, 1, 2)  # far from typical samples of the mixture
    sampler = DDIM(steps=500, clip=False)
    distances = [
        float((last(vary(Oracle(PAIR, schedule), schedule, sampler, image, s, *noise(64))) - image).abs().mean())
        for s in (0.001, 0.3, 0.6, 1.0)
    ]
    assert distances[0] < 0.01 and all(a < b for a, b in pairwise(distances))


def test_a_variation_equals_the_closed_form_of_sdedit() -> None:
    """For a Gaussian, DDIM's exact flow is a known linear map of alpha x0 + sigma eps."""
    schedule, sampler = CosineSchedule(), DDIM(steps=500, clip=False)
    image, wide = torch.tensor([0.7, 0.1]).view(1, 1, 1, 2), torch.tensor(MEAN).view(1, 1, 1, 2)
    eps, stream = noise(3)
    x = last(vary(Oracle(PAIR, schedule), schedule, sampler, image, 0.5, eps, stream)) - wide
    alpha, sigma = (float(v) for v in schedule(torch.tensor(0.5, dtype=torch.float64)))
    start_x = alpha * (image - wide) + sigma * eps
    rotation = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    variances = 0.25 * torch.tensor([1 + RHO, 1 - RHO])
    gain = (variances / (alpha**2 * variances + sigma**2)).sqrt()  # along each principal axis
    assert torch.allclose(x.flatten(1), (start_x.flatten(1) @ rotation * gain) @ rotation, atol=0.01)


@pytest.mark.parametrize("sampler", [DDIM(steps=10), DDPM(steps=10)])
def test_the_ends_between_two_seeds_are_plain_samples(sampler: Sampler) -> None:
    schedule = CosineSchedule()
    stream = BetweenNoise([3] * 2, [17] * 2, torch.tensor([0.0, 1.0]))
    x = start(schedule, stream.first((1, 1, 2), "cpu"))
    ends = last(run_sampler(Oracle(PAIR, schedule), schedule, sampler, x, stream))
    assert torch.equal(ends, plain(schedule, sampler, [3, 17]))


def test_noise_between_seeds_is_standard_normal() -> None:
    stream = BetweenNoise(range(200), range(1000, 1200), torch.full((200,), 0.5))
    for draw in (stream.first((1, 8, 8), "cpu"), stream(torch.empty(200, 1, 8, 8))):
        assert abs(float(draw.std()) - 1) < 0.02 and abs(float(draw.mean())) < 0.02


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_ends_between_two_images_are_variations(schedule: Schedule) -> None:
    one, other = (torch.tensor(v).view(1, 1, 1, 2) for v in ([0.9, 0.5], [-0.4, -0.9]))
    sampler, denoise = DDPM(steps=20, clip=False), Oracle(PAIR, schedule)
    same, weights = [5] * 5, torch.linspace(0, 1, 5)
    streams = [ImageNoise(same) for _ in range(3)]
    eps = [s.first((1, 1, 2), "cpu") for s in streams]
    x = last(interpolate(denoise, schedule, sampler, (one, other), weights, 0.4, eps[0], streams[0]))
    a, b = (last(vary(denoise, schedule, sampler, end, 0.4, eps[i], streams[i])) for i, end in ((1, one), (2, other)))
    assert torch.equal(x[0], a[0]) and torch.equal(x[-1], b[0])
    assert not torch.allclose(x[2], x[0]) and not torch.allclose(x[2], x[-1])


def test_moves_repeat_every_part_of_the_path_as_configured() -> None:
    assert moves(3, 1, 1) == [(0, 1), (1, 2), (2, 3)]
    assert moves(3, 2, 1) == [(0, 1), (1, 2), (2, 1), (1, 2), (2, 3), (3, 2), (2, 3)]
    for steps, resample, jump in ((50, 10, 10), (7, 3, 2), (4, 5, 10), (1, 4, 3)):
        path = moves(steps, resample, jump)
        assert path[0][0] == 0 and path[-1][1] == steps
        assert all(a[1] == b[0] for a, b in pairwise(path))
        assert all(j == i + 1 or j == i - min(jump, max(steps - 1, 1)) for i, j in path)
        downs = [i for i, j in path if j > i]
        assert max(downs.count(i) for i in range(steps)) == (resample if steps > 1 else 1)
    with pytest.raises(ValueError, match="^jump: "):
        RePaint(resample=2, jump=0)
    with pytest.raises(ValueError, match="^resample: "):
        RePaint(resample=0)


def painted(known: float, sampler: Sampler, repaint: RePaint, n: int, schedule: Schedule) -> Tensor:
    """The second pixel of n inpainted images, (n,), given the first pixel."""
    image, mask = torch.tensor([known, 0.0]).view(1, 1, 1, 2), torch.tensor([False, True]).view(1, 1, 1, 2)
    g = torch.Generator().manual_seed(7)
    eps = torch.randn(n, 1, 1, 2, generator=g)
    draws = repaint(
        Oracle(PAIR, schedule), schedule, sampler, image, mask, eps, lambda x: torch.randn(x.shape, generator=g)
    )
    x = last(draws)
    assert (x[:, 0, 0, 0] == torch.tensor(known)).all()  # exactly
    return x[:, 0, 0, 1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_repaint_with_resampling_has_the_conditional_mean(schedule: Schedule) -> None:
    """Without resampling, the unknown pixel is biased towards its unconditional mean, which is 0.56 away."""
    sampler, expected = DDPM(steps=80, variance="beta_tilde", clip=False), MEAN[1] + RHO * (0.9 - MEAN[0])
    once, often = (painted(0.9, sampler, RePaint(r, 4), 1000, schedule) for r in (1, 15))
    assert abs(float(often.mean()) - expected) < 0.05
    assert float(once.mean()) - expected < -0.1
    assert abs(float(often.std()) - 0.5 * math.sqrt(1 - RHO**2)) < 0.07


def test_repaint_with_nothing_known_is_plain_sampling() -> None:
    schedule, sampler = CosineSchedule(), DDIM(steps=20, clip=False)
    image, mask = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2, dtype=torch.bool)
    eps, stream = noise(4)
    x = last(RePaint(1, 1)(Oracle(PAIR, schedule), schedule, sampler, image, mask, eps, stream))
    assert torch.allclose(x, plain(schedule, sampler, [0, 1, 2, 3]), atol=1e-6)


def test_repaint_frames_and_steps() -> None:
    schedule, sampler, repaint = CosineSchedule(), DDIM(steps=6), RePaint(3, 2)
    image, mask = torch.zeros(1, 1, 1, 2), torch.tensor([False, True]).view(1, 1, 1, 2)
    frames = list(repaint(Oracle(PAIR, schedule), schedule, sampler, image, mask, *noise(2)))
    steps = repaint.steps(sampler, schedule)
    assert [f.t for f in frames] == [*(s.t for s in steps), 0.0]
    assert len(steps) == 6 + 2 * 2 * 2 and all(sampler.length(s) == 1 for s in steps)


def test_ping_pong_weights() -> None:
    w = ping_pong(8)
    assert w[0] == 0 and w[4] == 1 and torch.equal(w[1:4], w[5:].flip(0))
    assert (w[1:5] > w[:4]).all()
    assert w[1] < 0.5 * (w[2] - w[1])  # starts slowly


@pytest.mark.parametrize("schedule", [LinearSchedule(), *SCHEDULES])
@pytest.mark.parametrize("strength", [0.1, 0.4, 1.0])
def test_interpolation_between_images_has_the_noise_that_the_network_expects(
    schedule: Schedule, strength: float
) -> None:
    """The first x_t is alpha ((1 - w) a + w b) + sigma eps, also between an image and its negative."""
    one = torch.tensor([0.9, 0.5]).view(1, 1, 1, 2)
    sampler, weights = DDIM(steps=10, clip=False), torch.linspace(0, 1, 5)
    eps, stream = noise(5)
    frames = interpolate(Oracle(PAIR, schedule), schedule, sampler, (one, -one), weights, strength, eps, stream)
    frame = next(frames)
    alpha, sigma = schedule(torch.tensor(frame.t, dtype=torch.float64))
    middle = one * (1 - 2 * weights.view(-1, 1, 1, 1)) if strength < 1 else torch.zeros(())
    expected = alpha * middle + (sigma * eps if strength < 1 else start(schedule, eps))
    assert torch.allclose(frame.x, expected.float(), atol=1e-5)


def test_a_variation_depends_on_its_image_even_with_one_step() -> None:
    schedule, sampler = CosineSchedule(), DDIM(steps=1, clip=False)
    starts = []
    for value in (-1.0, 1.0):
        eps, stream = noise(2)
        image = torch.full((1, 1, 1, 2), value)
        starts.append(next(vary(Oracle(PAIR, schedule), schedule, sampler, image, 0.2, eps, stream)).x)
    assert not torch.equal(*starts)
