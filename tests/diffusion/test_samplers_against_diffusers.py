"""Every sampler compared with diffusers' scheduler of that name, with the same network, times, start and noise.

The whole trajectory is compared, not only its end: <= 1e-4 in float32, <= 1e-9 in float64, without exceptions. In
float32 the peer uses its own float32 tables. For float64 they are replaced by ours; then ddpm, ddim, heun
and unipc compute in float64 throughout; euler, dpmpp_2m and dpmpp_2m_sde cast the sample itself to float32 in `step`
(`double`).

Deliberate differences:
- Times. Each of our steps ends where the next one starts. DDIMScheduler's end T // steps below their start, which
  leaves gaps when steps does not divide T (`test_ddim_steps_are_contiguous_where_the_peers_are_not`). `linspace` of the
  peers visits times between grid points (euler, heun) or N of N + 1 points (dpm, unipc), ours N grid points from T to
  1; `leading` of dpm and unipc divides T by N + 1. So `trailing` is compared everywhere, the others where they mean the
  same or where the peer can be given our times.
- The last noise level is 0. DDIMScheduler's `set_alpha_to_one=False` and the others' `final_sigmas_type="sigma_min"`
  stop earlier; they are compared with the setting that does not.
- The last step of ddpm adds no noise. DDPMScheduler leaves it out only at index 0, so with trailing and fewer than T
  steps its samples keep the noise of their last step (`fixed_large`); here the peer is given zeros in that step.
- eps follows a clipped x0, as in DDIMScheduler's `use_clipped_model_output=True`; by default its does not.
- EulerDiscreteScheduler and HeunDiscreteScheduler keep x / alpha, and with trailing start from noise of size sigma_T.
  Ours start as the forward process ends, so the peer's start is scaled by sqrt(1 + sigma_T^2) here.
- EulerDiscreteScheduler's churn raises the noise, but calls the network at the old time and beyond the noise of T;
  HeunDiscreteScheduler has none. Ours follows algorithm 2 of the paper, see test_samplers.py.
- With the cosine schedule sigma / alpha is 2e4 at T, and 6e2 one step below it. At T, x / alpha and an x0 read from eps
  have an absolute precision of 1e-3 in float32, and a Heun step in sigma / alpha multiplies the change of eps by 1600,
  which is why ours integrates over another time (heun.py). So there euler, heun and, with epsilon, dpm and unipc are
  compared from `leading`'s first time, which with 999 steps is the one below T (`FROM_BELOW`); x0 and v start at T.
- DDPMScheduler computes beta_t = 1 - abar_t / abar_s from its float32 table, in which beta_1 = 1e-4 keeps three digits.
  For the noise of 1000 steps of `fixed_large` it gets our table in float64; the sample stays float32.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from ddpm_cli.diffusion.samplers import DDIM, DDPM, DPMpp2M, DPMpp2MSDE, Euler, Heun, UniPC
from ddpm_cli.diffusion.schedule import CosineSchedule, DiscreteSchedule, LinearSchedule, ScaledLinearSchedule
from ddpm_cli.diffusion.spacing import Spacing
from ddpm_cli.diffusion.target import X0, Epsilon, Prediction, Target, V

SHAPE = (2, 1, 4, 4)
AnySampler = DDPM | DDIM | Euler | Heun | DPMpp2M | DPMpp2MSDE | UniPC
SCHEDULES: dict[str, DiscreteSchedule] = {
    "linear": LinearSchedule(),
    "scaled_linear": ScaledLinearSchedule(),
    "squaredcos_cap_v2": CosineSchedule(),
}
TARGETS: dict[str, Target] = {"epsilon": Epsilon(), "sample": X0(), "v_prediction": V()}


class Peer(NamedTuple):
    module: str
    name: str
    options: dict[str, Any]
    step: dict[str, Any] = {}  # noqa: RUF012
    double: bool = True


DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
CASES: dict[str, tuple[AnySampler, Peer]] = {
    "ddpm_beta": (DDPM(variance="beta"), Peer("ddpm", "DDPMScheduler", {"variance_type": "fixed_large"})),
    "ddpm_beta_tilde": (DDPM(variance="beta_tilde"), Peer("ddpm", "DDPMScheduler", {"variance_type": "fixed_small"})),
    "ddpm_learned": (DDPM(variance="learned"), Peer("ddpm", "DDPMScheduler", {"variance_type": "learned_range"})),
    "ddim": (DDIM(), Peer("ddim", "DDIMScheduler", {}, {"eta": 0.0})),
    "ddim_eta_1": (DDIM(eta=1.0), Peer("ddim", "DDIMScheduler", {}, {"eta": 1.0})),
    "euler": (Euler(), Peer("euler_discrete", "EulerDiscreteScheduler", {}, double=False)),
    "heun": (Heun(), Peer("heun_discrete", "HeunDiscreteScheduler", {})),
    "dpmpp_2m": (DPMpp2M(), Peer("dpmsolver_multistep", "DPMSolverMultistepScheduler", DPM, double=False)),
    "dpmpp_2m_sde": (
        DPMpp2MSDE(),
        Peer(
            "dpmsolver_multistep",
            "DPMSolverMultistepScheduler",
            {**DPM, "algorithm_type": "sde-dpmsolver++"},
            double=False,
        ),
    ),
    "unipc_1": (UniPC(order=1), Peer("unipc_multistep", "UniPCMultistepScheduler", {"solver_order": 1})),
    "unipc": (UniPC(), Peer("unipc_multistep", "UniPCMultistepScheduler", {"solver_order": 2})),
    "unipc_3": (UniPC(order=3), Peer("unipc_multistep", "UniPCMultistepScheduler", {"solver_order": 3})),
}


class Network:
    """A smooth function of x and the index as each kind of prediction: v = -p, with consistent x0 and eps.

    x0 = alpha x + sigma p and eps = sigma x - alpha p have unit size at all times, like those of a trained network.
    """

    def __init__(self, schedule: DiscreteSchedule, kind: str, size: float = 0.5):
        self.schedule, self.kind, self.size = schedule, kind, size

    def __call__(self, x: Tensor, index: float) -> Tensor:
        alpha, sigma = self.schedule(torch.tensor((index + 1) / self.schedule.steps, dtype=torch.float64))
        p = self.size * torch.sin(2 * x + index / 300) + self.size / 3
        if self.kind == "epsilon":
            return sigma * x - alpha * p
        return alpha * x + sigma * p if self.kind == "sample" else -p

    def variance_fraction(self, x: Tensor, index: float) -> Tensor:
        """The learned variance as a network predicts it, in [-1, 1]."""
        return torch.sin(3 * x - index / 200)

    def denoise(self, x_t: Tensor, t: Tensor) -> Prediction:
        index = float(self.schedule.conditioning(t))
        prediction = TARGETS[self.kind].invert(self(x_t, index), x_t, *self.schedule(t))
        return prediction._replace(variance_fraction=(self.variance_fraction(x_t, index) + 1) / 2)


def draws(seed: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """Standard normal noise, the same in both precisions."""
    g = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(SHAPE, generator=g, dtype=torch.float64).to(dtype)


@cache
def loaded(module: str) -> Any:
    """The module of one scheduler; the rest of diffusers is not imported."""
    return importlib.import_module(f"diffusers.schedulers.scheduling_{module}")


def made(peer: Peer, beta_schedule: str, kind: str, spacing: str, **options: Any) -> Any:
    start, end = (0.00085, 0.012) if beta_schedule == "scaled_linear" else (1e-4, 0.02)
    clip = {"clip_sample": False} if peer.module in ("ddpm", "ddim") else {}
    return getattr(loaded(peer.module), peer.name)(
        beta_start=start,
        beta_end=end,
        beta_schedule=beta_schedule,
        prediction_type=kind,
        timestep_spacing=spacing,
        **{**clip, **peer.options, **options},
    )


def in_double(scheduler: Any, schedule: DiscreteSchedule) -> None:
    """Replace the peer's float32 table by our float64 one (after set_timesteps)."""
    scheduler.alphas_cumprod = schedule.alphas_cumprod[1:]
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    if hasattr(scheduler, "sigmas"):
        sigmas = levels(schedule, scheduler.timesteps)
        assert torch.allclose(sigmas.float(), scheduler.sigmas, rtol=1e-3)
        scheduler.sigmas = sigmas


def levels(schedule: DiscreteSchedule, indices: Tensor) -> Tensor:
    """sigma / alpha at the peer's time indices, then 0."""
    abar = schedule.alphas_cumprod[indices.long() + 1]
    return torch.cat([((1 - abar) / abar).sqrt(), torch.zeros(1, dtype=torch.float64)])


def at_our_times(scheduler: Any, schedule: DiscreteSchedule, times: Tensor) -> None:
    """Make a multistep peer, whose `leading` differs, visit our times (after set_timesteps)."""
    scheduler.timesteps = (times[:-1] * schedule.steps).round().long() - 1
    scheduler.sigmas = levels(schedule, scheduler.timesteps).float()


def injected(noise: Tensor, *_: Any, **__: Any) -> Tensor:
    """The noise that the peer gets instead of its own."""
    return noise


def theirs(scheduler: Any, peer: Peer, network: Network, x: Tensor, noise: Iterator[Tensor]) -> list[Tensor]:
    """x_t at the times where a step starts, then the sample."""
    states, last = [], len(scheduler.timesteps) - 1
    if peer.module in ("euler_discrete", "heun_discrete"):
        x = x * (1 + scheduler.sigmas[0].square()).sqrt()
    for i, t in enumerate(scheduler.timesteps):
        x_t = scheduler.scale_model_input(x, t)
        out = network(x_t, float(t))
        if peer.options.get("variance_type") == "learned_range":
            out = torch.cat([out, network.variance_fraction(x_t, float(t))], dim=1)
        options = dict(peer.step)
        if "sde" in peer.options.get("algorithm_type", "") or peer.step.get("eta"):
            options["variance_noise"] = next(noise)
        if peer.module == "ddpm":
            loaded(peer.module).randn_tensor = partial(injected, next(noise) if i < last else torch.zeros_like(x))
        x = scheduler.step(out, t, x, **options).prev_sample
        if peer.module == "unipc_multistep":
            x_t = scheduler.last_sample  # corrected, as in our frames
        if peer.module != "heun_discrete" or i % 2 == 0:  # its second calls are not steps
            states.append(x_t)
    return [*states, x]


def ours(sampler: AnySampler, network: Network, x: Tensor, noise: Iterator[Tensor]) -> list[Tensor]:
    return [frame.x for frame in sampler(network.denoise, network.schedule, x, lambda like: next(noise))]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """The largest difference along the trajectory."""

    def difference(
        sampler: AnySampler,
        peer: Peer,
        beta_schedule: str,
        kind: str,
        dtype: torch.dtype,
        our_table: bool = False,
        **options: Any,
    ) -> float:
        if peer.module == "ddpm":
            monkeypatch.setattr(loaded(peer.module), "randn_tensor", injected)  # restored after the test
        schedule, spacing = SCHEDULES[beta_schedule], sampler.spacing
        scheduler = made(peer, beta_schedule, kind, "trailing" if spacing == "auto" else spacing, **options)
        scheduler.set_timesteps(sampler.length(schedule))
        if spacing == "leading" and "multistep" in peer.module:
            at_our_times(scheduler, schedule, sampler.times(schedule))
        if dtype == torch.float64 or our_table:
            in_double(scheduler, schedule)
        network = Network(schedule, kind, size=2.0 if sampler.clip else 0.5)
        x = next(draws(0, dtype))
        a = theirs(scheduler, peer, network, x, draws(1, dtype))
        b = ours(sampler, network, x, draws(1, dtype))
        assert len(a) == len(b) == sampler.length(schedule) + 1
        assert all(v.dtype == dtype and v.isfinite().all() for v in (*a, *b))
        return max(float((v - w).abs().max()) for v, w in zip(a, b, strict=True))

    return difference


FROM_BELOW = ("euler", "heun")


def spaced(case: str, beta_schedule: str, kind: str) -> Spacing:
    if beta_schedule != "squaredcos_cap_v2":
        return "trailing"
    imprecise = kind == "epsilon" and "multistep" in CASES[case][1].module
    return "leading" if case in FROM_BELOW or imprecise else "trailing"


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("beta_schedule", SCHEDULES)
@pytest.mark.parametrize("case", CASES)
def test_the_same_in_float32(
    compare: Callable[..., float], case: str, beta_schedule: str, kind: str, steps: int
) -> None:
    sampler, peer = CASES[case]
    sampler = replace(sampler, steps=steps, clip=False, spacing=spaced(case, beta_schedule, kind))
    assert compare(sampler, peer, beta_schedule, kind, torch.float32) <= 1e-4


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("beta_schedule", SCHEDULES)
@pytest.mark.parametrize("case", [name for name, (_, peer) in CASES.items() if peer.double])
def test_the_same_in_float64(
    compare: Callable[..., float], case: str, beta_schedule: str, kind: str, steps: int
) -> None:
    sampler, peer = CASES[case]
    sampler = replace(sampler, steps=steps, clip=False, spacing=spaced(case, beta_schedule, "sample"))
    assert compare(sampler, peer, beta_schedule, kind, torch.float64) <= 1e-9


THOUSAND = [
    ("ddpm_beta", "linear", "epsilon", torch.float32),
    ("ddpm_beta", "linear", "epsilon", torch.float64),
    ("ddpm_beta_tilde", "squaredcos_cap_v2", "epsilon", torch.float64),
    ("ddpm_learned", "scaled_linear", "v_prediction", torch.float64),
    ("ddim", "squaredcos_cap_v2", "v_prediction", torch.float32),
    ("ddim", "linear", "epsilon", torch.float64),
    ("ddim_eta_1", "scaled_linear", "sample", torch.float64),
    ("euler", "scaled_linear", "epsilon", torch.float32),
    ("euler", "squaredcos_cap_v2", "epsilon", torch.float32),
    ("heun", "linear", "sample", torch.float32),
    ("heun", "squaredcos_cap_v2", "epsilon", torch.float32),
    ("heun", "squaredcos_cap_v2", "sample", torch.float64),
    ("heun", "scaled_linear", "v_prediction", torch.float64),
    ("dpmpp_2m", "squaredcos_cap_v2", "v_prediction", torch.float32),
    ("dpmpp_2m_sde", "scaled_linear", "sample", torch.float32),
    ("dpmpp_2m", "squaredcos_cap_v2", "epsilon", torch.float32),
    ("dpmpp_2m_sde", "squaredcos_cap_v2", "v_prediction", torch.float32),
    ("unipc", "linear", "epsilon", torch.float32),
    ("unipc", "squaredcos_cap_v2", "epsilon", torch.float32),
    ("unipc", "squaredcos_cap_v2", "sample", torch.float64),
]


@pytest.mark.parametrize(("case", "beta_schedule", "kind", "dtype"), THOUSAND)
def test_the_same_with_all_steps(
    compare: Callable[..., float], case: str, beta_schedule: str, kind: str, dtype: torch.dtype
) -> None:
    sampler, peer = CASES[case]
    spacing = spaced(case, beta_schedule, "sample" if dtype == torch.float64 else kind)
    sampler = replace(sampler, steps=999 if spacing == "leading" else 1000, clip=False, spacing=spacing)
    difference = compare(sampler, peer, beta_schedule, kind, dtype, our_table=case == "ddpm_beta")
    assert difference <= (1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize(
    ("spacing", "case"),
    [
        *(("leading", case) for case in ("ddpm_beta", "ddpm_beta_tilde", "ddpm_learned", "ddim", "ddim_eta_1", "heun")),
        *(("linspace", case) for case in ("ddpm_beta", "ddpm_beta_tilde", "ddpm_learned", "heun")),
    ],
)
def test_the_same_with_other_spacings(compare: Callable[..., float], spacing: Spacing, case: str) -> None:
    sampler, peer = CASES[case]
    sampler = replace(
        sampler, steps=10, clip=False, spacing=spacing
    )  # 999 / 9 is an integer, so linspace stays on the grid
    assert compare(sampler, peer, "linear", "epsilon", torch.float64) <= 1e-9


@pytest.mark.parametrize("case", ["ddpm_beta", "ddpm_beta_tilde", "ddim", "ddim_eta_1"])
def test_the_same_when_clipped(compare: Callable[..., float], case: str) -> None:
    sampler, peer = CASES[case]
    if peer.module == "ddim":
        peer = peer._replace(step={**peer.step, "use_clipped_model_output": True})
    sampler = replace(sampler, steps=50, clip=True)
    clipped = compare(sampler, peer, "linear", "epsilon", torch.float64, clip_sample=True)
    assert clipped <= 1e-9
    assert (
        compare(sampler, peer, "linear", "epsilon", torch.float64, clip_sample=False) > 1e-2
    )  # clipping has an effect


@pytest.mark.parametrize("case", ["ddpm_beta_tilde", "dpmpp_2m", "dpmpp_2m_sde", "euler", "heun", "unipc"])
def test_the_same_when_steps_does_not_divide_t(compare: Callable[..., float], case: str) -> None:
    sampler, peer = CASES[case]
    assert compare(replace(sampler, steps=7, clip=False), peer, "linear", "epsilon", torch.float32) <= 1e-4


def test_ddim_steps_are_contiguous_where_the_peers_are_not(compare: Callable[..., float]) -> None:
    """At eta = 1 the step equals that of ddpm, whose peer has contiguous steps like ours."""
    sampler = DDIM(eta=1.0, steps=7, clip=False)
    assert compare(sampler, CASES["ddpm_beta_tilde"][1], "linear", "epsilon", torch.float64) <= 1e-9
    assert compare(sampler, CASES["ddim_eta_1"][1], "linear", "epsilon", torch.float64) > 1e-3


@pytest.mark.parametrize("beta_schedule", SCHEDULES)
def test_the_same_tables(beta_schedule: str) -> None:
    """The peer computes them in float32, with 1000 roundings of at most 6e-8 each."""
    scheduler = made(CASES["ddpm_beta"][1], beta_schedule, "epsilon", "trailing")
    schedule = SCHEDULES[beta_schedule]
    assert torch.allclose(scheduler.betas.double(), schedule.betas, rtol=0, atol=2e-7)
    assert torch.allclose(scheduler.alphas_cumprod.double(), schedule.alphas_cumprod[1:], rtol=6e-5, atol=0)
