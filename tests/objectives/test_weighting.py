"""Every weighting is the same function of the error of x0 for every target."""

import pytest
import torch

from ddpm_cli.diffusion.target import EDM, X0, Epsilon, Target, V, Velocity
from ddpm_cli.objectives.weighting import P2, SNR, EDMWeight, MinSNR, Simple, Weighting

ANGLE = torch.linspace(0.05, 1.5, 7, dtype=torch.float64)
ALPHA, SIGMA = ANGLE.cos(), ANGLE.sin()
RATIO = (ALPHA / SIGMA) ** 2
TARGETS = [Epsilon(), X0(), V(), Velocity(), EDM(0.5)]
IN_X0 = [
    (SNR(), RATIO),
    (MinSNR(5.0), RATIO.clamp(max=5.0)),
    (P2(gamma=0.5, k=2.0), RATIO / (2.0 + RATIO) ** 0.5),
    # sigma~ = sigma / alpha: (sigma~^2 + s^2) / (sigma~ s)^2
    (EDMWeight(0.5), (1 / RATIO + 0.25) / (1 / RATIO * 0.25)),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize(("weighting", "in_x0"), IN_X0, ids=lambda w: type(w).__name__)
def test_the_weighted_loss_equals_the_weighted_error_of_x0(
    target: Target, weighting: Weighting, in_x0: torch.Tensor
) -> None:
    """A wrong x0 at a known x_t, expressed as an error of the target, has the weight of the paper's x0 form."""
    g = torch.Generator().manual_seed(0)
    x0, eps, wrong = torch.randn(3, 7, generator=g, dtype=torch.float64)
    x_t = ALPHA * x0 + SIGMA * eps
    seen = target.compute(wrong, (x_t - ALPHA * wrong) / SIGMA, ALPHA, SIGMA)
    error = (seen - target.compute(x0, eps, ALPHA, SIGMA)) ** 2
    weighted = weighting(ALPHA, SIGMA, target.gain(ALPHA, SIGMA)) * error
    torch.testing.assert_close(weighted, in_x0 * (wrong - x0) ** 2)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: type(t).__name__)
def test_simple_has_weight_one_for_every_target(target: Target) -> None:
    assert bool((Simple()(ALPHA, SIGMA, target.gain(ALPHA, SIGMA)) == 1).all())


def test_the_formulas_of_the_papers() -> None:
    """min-SNR for eps and v (Hang et al. 2023, section 3.4); EDM's lambda c_out^2 = 1 (table 1); SNR for eps is 1."""
    gain = {type(t).__name__: t.gain(ALPHA, SIGMA) for t in TARGETS}
    clamped = RATIO.clamp(max=5)
    torch.testing.assert_close(MinSNR(5.0)(ALPHA, SIGMA, gain["Epsilon"]), clamped / RATIO)
    torch.testing.assert_close(MinSNR(5.0)(ALPHA, SIGMA, gain["V"]), clamped / (RATIO + 1))
    torch.testing.assert_close(SNR()(ALPHA, SIGMA, gain["Epsilon"]), torch.ones_like(RATIO))
    torch.testing.assert_close(EDMWeight(0.5)(ALPHA, SIGMA, gain["EDM"]), torch.ones_like(RATIO))


def test_weights_are_finite_without_signal() -> None:
    """At t = 1 of a flow, or with zero terminal SNR, alpha = 0."""
    alpha, sigma = torch.zeros(1), torch.ones(1)
    for target in (X0(), V(), Velocity(), EDM()):
        for weighting in (Simple(), SNR(), MinSNR(), P2(), EDMWeight()):
            assert bool(weighting(alpha, sigma, target.gain(alpha, sigma)).isfinite().all())


@pytest.mark.parametrize("make", [lambda: MinSNR(0.0), lambda: P2(k=0.0), lambda: EDMWeight(-1.0)])
def test_out_of_range(make: object) -> None:
    with pytest.raises(ValueError, match=r"^\w+: must be positive"):
        make()  # type: ignore[operator]
