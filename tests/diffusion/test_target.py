"""invert(of(x)) = x, and both readings of a network's output agree with x_t."""

import pytest
import torch

from ddpm_cli.diffusion.target import X0, Epsilon, Target, V


@pytest.mark.parametrize("target", [Epsilon(), X0(), V()])
@pytest.mark.parametrize("alpha", [0.999, 0.7, 0.01])
def test_invert_undoes_of(target: Target, alpha: float) -> None:
    g = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(4, 3, 5, 5, generator=g, dtype=torch.float64) for _ in range(2))
    a, s = torch.tensor(alpha, dtype=torch.float64), torch.tensor((1 - alpha**2) ** 0.5, dtype=torch.float64)
    x_t = a * x0 + s * eps
    prediction = target.invert(target.of(x0, eps, a, s), x_t, a, s)
    assert torch.allclose(prediction.x0, x0, atol=1e-10)
    assert torch.allclose(prediction.eps, eps, atol=1e-10)


@pytest.mark.parametrize("target", [Epsilon(), X0(), V()])
def test_any_output_keeps_the_law(target: Target) -> None:
    """x_t = alpha x0 + sigma eps holds for a wrong network as well, also after clipping."""
    g = torch.Generator().manual_seed(2)
    x_t, out = (torch.randn(2, 1, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    a, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    prediction = target.invert(out, x_t, a, s)
    for p in (prediction, prediction.clipped(x_t, a, s)):
        assert torch.allclose(a * p.x0 + s * p.eps, x_t, atol=1e-12)
    assert float(prediction.clipped(x_t, a, s).x0.abs().max()) <= 1


def test_v_is_the_velocity_of_the_angle() -> None:
    """v = d x_t / d phi with alpha = cos phi, sigma = sin phi (Salimans & Ho 2022, appendix D)."""
    x0, eps, phi, h = torch.tensor(0.4), torch.tensor(-1.1), torch.tensor(0.7, dtype=torch.float64), 1e-6

    def x(angle: torch.Tensor) -> torch.Tensor:
        return angle.cos() * x0 + angle.sin() * eps

    derivative = (x(phi + h) - x(phi - h)) / (2 * h)
    assert torch.allclose(V().of(x0, eps, phi.cos(), phi.sin()), derivative, atol=1e-8)
