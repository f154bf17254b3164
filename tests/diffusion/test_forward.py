"""q(x_t | x_0) and q(x_{t-1} | x_t, x_0), compared with simulation and with the paper's closed form."""

import torch

from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.posterior import posterior
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule
from ddpm_cli.diffusion.target import Epsilon


def test_the_moments_of_q_agree_with_a_simulated_chain() -> None:
    """x_k = sqrt(1 - beta_k) x_{k-1} + sqrt(beta_k) z, step by step, has the schedule's mean and variance."""
    schedule, g = LinearSchedule(steps=50, beta_start=1e-3, beta_end=0.2), torch.Generator().manual_seed(0)
    n, start = 200_000, 0.7
    x = torch.full((n,), start, dtype=torch.float64)
    for k, beta in enumerate(schedule.betas, start=1):
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(n, generator=g, dtype=torch.float64)
        if k in (1, 10, 25, 50):
            alpha, sigma = schedule(torch.tensor(k / 50, dtype=torch.float64))
            assert abs(float(x.mean() - alpha * start)) < 4 * float(sigma) / n**0.5
            assert abs(float(x.var() / sigma**2) - 1) < 4 * (2 / n) ** 0.5


def test_diffuse_scales_each_image_by_its_own_time() -> None:
    denoiser = Denoiser(torch.nn.Identity(), LinearSchedule(), Epsilon())
    x0, eps = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), 2.0)
    t = torch.tensor([0.0, 1.0])
    out = denoiser.diffuse(x0, eps, t)
    assert torch.allclose(out[0], x0[0])
    assert torch.allclose(out[1], torch.full((1, 2, 2), 4.0358e-5**0.5 * 0.5 + (1 - 4.0358e-5) ** 0.5 * 2.0), atol=1e-5)


def test_the_posterior_equals_the_closed_form_of_the_paper() -> None:
    """mu-tilde and beta-tilde of Ho et al. 2020, eq. 7, written there in betas and cumulative products."""
    schedule = LinearSchedule()
    beta, cumulative = schedule.betas, schedule.alphas_cumprod
    for k in (2, 3, 10, 500, 1000):
        t, s = torch.tensor(k / 1000, dtype=torch.float64), torch.tensor((k - 1) / 1000, dtype=torch.float64)
        q = posterior(*schedule(t), *schedule(s))
        of_x0 = cumulative[k - 1].sqrt() * beta[k - 1] / (1 - cumulative[k])
        of_xt = (1 - beta[k - 1]).sqrt() * (1 - cumulative[k - 1]) / (1 - cumulative[k])
        beta_tilde = (1 - cumulative[k - 1]) / (1 - cumulative[k]) * beta[k - 1]
        for value, expected in ((q.of_x0, of_x0), (q.of_x_t, of_xt), (q.beta_tilde, beta_tilde), (q.beta, beta[k - 1])):
            assert torch.allclose(value, expected, rtol=1e-9)


def test_the_posterior_of_any_two_times_follows_from_bayes_rule() -> None:
    """The joint Gaussian of (x_s, x_t) given x_0, conditioned on x_t."""
    schedule = CosineSchedule()
    t, s = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.35, dtype=torch.float64)
    (a_t, s_t), (a_s, s_s) = schedule(t), schedule(s)
    covariance = a_t / a_s * s_s**2  # x_t = (a_t / a_s) x_s + independent noise
    q = posterior(a_t, s_t, a_s, s_s)
    x0, x_t = 0.3, -1.2
    mean = a_s * x0 + covariance / s_t**2 * (x_t - a_t * x0)
    assert torch.allclose(q.of_x_t * x_t + q.of_x0 * x0, mean)
    assert torch.allclose(q.beta_tilde, s_s**2 - covariance**2 / s_t**2)
