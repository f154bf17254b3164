"""`invert` inverts `compute`, and the x0 and eps of any network output are consistent with x_t."""

import pytest
import torch

from ddpm_cli.diffusion.target import EDM, X0, Epsilon, Target, V, Velocity

PRESERVING = [(0.999, 0.0447101778), (0.6, 0.8), (0.01, 0.99994999875)]
OTHERS = [(1.0, 0.002), (1.0, 80.0), (0.75, 0.25), (0.1, 0.9)]  # variance-exploding, and straight paths
CASES = [
    *((target, pair) for target in (Epsilon(), X0(), V(), Velocity(), EDM(), EDM(0.3)) for pair in PRESERVING),
    *((target, pair) for target in (Epsilon(), X0(), Velocity(), EDM(), EDM(0.3)) for pair in OTHERS),
]
PURE_NOISE = (0.0, 1.0)


def double(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def images(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(4, 3, 5, 5, generator=g, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def name(value: object) -> str:
    return str(value)


@pytest.mark.parametrize(("target", "pair"), CASES, ids=name)
def test_invert_inverts_compute(target: Target, pair: tuple[float, float]) -> None:
    (x0, eps), (a, s) = images(1), double(*pair)
    x_t = a * x0 + s * eps
    prediction = target.invert(target.compute(x0, eps, a, s), x_t, a, s)
    torch.testing.assert_close(prediction.x0, x0, atol=2e-9, rtol=0)
    torch.testing.assert_close(prediction.eps, eps, atol=2e-9, rtol=0)


@pytest.mark.parametrize(("target", "pair"), CASES, ids=name)
def test_x0_and_eps_of_any_output_are_consistent_with_x_t(target: Target, pair: tuple[float, float]) -> None:
    """x_t = alpha x0 + sigma eps holds for any output, also after clipping and thresholding."""
    (x_t, out), (a, s) = images(2), double(*pair)
    prediction = target.invert(3 * out, x_t, a, s)
    for p in (prediction, prediction.clipped(x_t, a, s), prediction.thresholded(0.9, x_t, a, s)):
        torch.testing.assert_close(a * p.x0 + s * p.eps, x_t, atol=1e-8, rtol=1e-9)
    assert float(prediction.clipped(x_t, a, s).x0.abs().max()) <= 1


@pytest.mark.parametrize("target", [X0(), V(), Velocity(), EDM()], ids=name)
def test_x0_can_be_recovered_from_pure_noise(target: Target) -> None:
    """At alpha = 0 the target still determines x0, and eps is x_t."""
    (x0, eps), (a, s) = images(3), double(*PURE_NOISE)
    prediction = target.invert(target.compute(x0, eps, a, s), eps, a, s)
    torch.testing.assert_close(prediction.x0, x0)
    torch.testing.assert_close(prediction.eps, eps)
    assert target.reads_pure_noise and not Epsilon().reads_pure_noise


@pytest.mark.parametrize(("target", "pair"), CASES, ids=name)
def test_gain_is_the_derivative(target: Target, pair: tuple[float, float]) -> None:
    """|d target / d x0|^2 at a fixed x_t, by a finite difference (the target is linear in x0)."""
    (x0, eps), (a, s) = images(4), double(*pair)
    x_t = a * x0 + s * eps
    moved = target.compute(x0 + 1, (x_t - a * (x0 + 1)) / s, a, s) - target.compute(x0, eps, a, s)
    torch.testing.assert_close(moved.square(), target.gain(a, s).expand_as(moved), rtol=1e-6, atol=1e-9)


def test_v_is_the_velocity_of_the_angle() -> None:
    """v = d x_t / d phi with alpha = cos phi, sigma = sin phi (Salimans & Ho 2022, appendix D)."""
    x0, eps, phi, h = torch.tensor(0.4), torch.tensor(-1.1), torch.tensor(0.7, dtype=torch.float64), 1e-6

    def x(angle: torch.Tensor) -> torch.Tensor:
        return angle.cos() * x0 + angle.sin() * eps

    derivative = (x(phi + h) - x(phi - h)) / (2 * h)
    assert torch.allclose(V().compute(x0, eps, phi.cos(), phi.sin()), derivative, atol=1e-8)


def test_the_flow_target_is_the_velocity_in_t() -> None:
    """u = d x_t / dt with alpha = 1 - t, sigma = t (Liu et al. 2022, eq. 1)."""
    (x0, eps), (t, h) = images(5), (0.3, 0.25)
    change = ((1 - t - h) * x0 + (t + h) * eps) - ((1 - t) * x0 + t * eps)
    torch.testing.assert_close(Velocity().compute(x0, eps, *double(1 - t, t)), change / h)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_edm_equals_table_1(sigma: float) -> None:
    """c_skip, c_out and c_in of Karras et al. 2022 at alpha = 1; unit variance of input and target."""
    s, (alpha, level), (out, x_t) = 0.4, double(1.0, sigma), images(6)
    c_skip = s**2 / (sigma**2 + s**2)
    c_out, c_in = sigma * s / (sigma**2 + s**2) ** 0.5, 1 / (sigma**2 + s**2) ** 0.5
    torch.testing.assert_close(EDM(s).invert(out, x_t, alpha, level).x0, c_skip * x_t + c_out * out)
    torch.testing.assert_close(EDM(s).input_scale(alpha, level), torch.tensor(c_in, dtype=torch.float64))
    of_x0, of_eps = (EDM(s).compute(*double(*pair), alpha, level) for pair in ((1.0, 0.0), (0.0, 1.0)))
    assert float(of_x0**2 * s**2 + of_eps**2) == pytest.approx(1)


def test_edm_with_unit_variance_is_minus_v() -> None:
    (x0, eps), (a, s) = images(7), double(0.6, 0.8)
    torch.testing.assert_close(EDM(1.0).compute(x0, eps, a, s), -V().compute(x0, eps, a, s))


def test_dynamic_thresholding() -> None:
    """Divides by the quantile of |x0| where that is above 1, per image (Saharia et al. 2022, section 2.3)."""
    x0 = torch.stack([torch.linspace(-4, 4, 101), torch.linspace(-0.5, 0.5, 101)]).double().view(2, 1, 1, 101)
    a, s = double(0.6, 0.8)
    prediction = Epsilon().invert(torch.zeros_like(x0), a * x0, a, s).thresholded(0.5, a * x0, a, s)
    torch.testing.assert_close(prediction.x0[0], (x0[0] / 2).clamp(-1, 1), atol=1e-6, rtol=0)  # the median of |x0| is 2
    torch.testing.assert_close(prediction.x0[1], x0[1])
