"""Guidance on a mixture with known class posteriors, compared with the analytic gradient."""

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.diffusion.guidance import ByClassifier, ClassifierFree, Unguided
from ddpm_cli.diffusion.oracle import GaussianMixture
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import Epsilon, V, Velocity

WHOLE = GaussianMixture.of([0.2, 0.3, 0.5], [[-1.0, 0.2], [0.8, 0.9], [0.3, -1.0]], [0.2, 0.4, 0.3])
CLASSES = [WHOLE.only([0, 2]), WHOLE.only([1])]
PRIOR = torch.tensor([0.7, 0.3], dtype=torch.float64)
X = torch.randn(6, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0])
TIMES = [0.05, 0.4, 0.9]


class Exact(nn.Module):
    """The exact eps of the class, or of the mixture for label -1; its time input is the schedule's conditioning."""

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule, self.calls = schedule, 0

    def level(self, c: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.schedule, EDMSchedule):
            return torch.ones_like(c), torch.exp(4 * c)
        return self.schedule((c + 1) / 1000)

    def forward(self, x: Tensor, c: Tensor, y: Tensor | None) -> Tensor:
        self.calls += 1
        alpha, sigma = self.level(c)
        if isinstance(self.schedule, EDMSchedule):  # the denoiser scaled its input
            x = x * (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
        flat, out = x.flatten(1), torch.empty_like(x.flatten(1))
        labels = torch.full((len(x),), -1) if y is None else y
        for k, mixture in ((-1, WHOLE), *enumerate(CLASSES)):
            rows = labels == k
            if bool(rows.any()):
                out = out.index_put((rows,), -sigma[rows, None] * mixture.score(flat[rows], alpha[rows], sigma[rows]))
        return out.view_as(x)


class Posterior(nn.Module):
    """ln p(x_t | y) + ln p(y), as logits."""

    def __init__(self, exact: Exact):
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        alpha, sigma = self.exact.level(c)
        if isinstance(self.exact.schedule, EDMSchedule):
            x = x * (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
        logits = [m.log_prob(x.flatten(1), alpha, sigma) + p.log() for m, p in zip(CLASSES, PRIOR, strict=True)]
        return torch.stack(logits, 1)


def setting(schedule: Schedule, t: float) -> tuple[Denoiser, Tensor, Tensor, Tensor]:
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule(time)
    return Denoiser(Exact(schedule), schedule, Epsilon()), time, alpha, sigma


def eps_of(mixture: GaussianMixture, alpha: Tensor, sigma: Tensor) -> Tensor:
    return (-sigma * mixture.score(X.flatten(1), alpha, sigma)).view_as(X)


def eps_of_labels(alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.stack([eps_of(CLASSES[k], alpha, sigma)[i] for i, k in enumerate(LABELS.tolist())])


@pytest.mark.parametrize("schedule", [LinearSchedule(), EDMSchedule(sigma_max=5.0)], ids=["preserving", "exploding"])
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_classifier_free_guidance_equals_the_analytic_gradient(schedule: Schedule, t: float, scale: float) -> None:
    """score + w grad ln p(y | x_t) by Bayes, in one call of the network."""
    model, time, alpha, sigma = setting(schedule, t)
    prediction = ClassifierFree(scale)(model, LABELS)(X, time)
    free, conditional = eps_of(WHOLE, alpha, sigma), eps_of_labels(alpha, sigma)
    torch.testing.assert_close(prediction.eps, free + scale * (conditional - free))
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, X)
    assert model.backbone.calls == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("schedule", [CosineSchedule(), EDMSchedule(sigma_max=5.0)], ids=["preserving", "exploding"])
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_noisy_classifier_guides_the_mixture_to_the_class(schedule: Schedule, t: float, scale: float) -> None:
    """Bayes' rule at scale 1: the unconditional score plus grad ln p(y | x_t) is the score of the class."""
    model, time, alpha, sigma = setting(schedule, t)
    guidance = ByClassifier(Posterior(model.backbone), "noisy", scale)  # type: ignore[arg-type]
    unlabelled = lambda x, t, y, x0_estimate=None: Denoiser.forward(model, x, t, None, x0_estimate)  # noqa: E731
    model.forward = unlabelled  # type: ignore[method-assign, assignment]
    prediction = guidance(model, LABELS)(X, time)
    free, conditional = eps_of(WHOLE, alpha, sigma), eps_of_labels(alpha, sigma)
    torch.testing.assert_close(prediction.eps, free + scale * (conditional - free), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, X, rtol=1e-6, atol=1e-7)


def test_a_clean_classifier_is_differentiated_through_the_denoiser() -> None:
    """The gradient of ln p(y | E[x0 | x_t]) with respect to x_t agrees with finite differences."""
    model, time, alpha, sigma = setting(CosineSchedule(), 0.4)
    linear = nn.Linear(2, 2).double()

    def clean(x: Tensor, c: Tensor) -> Tensor:
        assert bool((c == 0).all())
        return linear(x.flatten(1))

    def log_p(x: Tensor) -> Tensor:
        x0 = model(x, time, LABELS).x0.clamp(-1, 1)
        return linear(x0.flatten(1)).log_softmax(1).gather(1, LABELS[:, None])[:, 0]

    prediction = ByClassifier(clean, "clean", 2.0)(model, LABELS)(X, time)
    with torch.no_grad():
        for j, h in ((0, 1e-5), (1, 1e-5)):
            step = torch.zeros_like(X)
            step[..., j] = h
            slope = (log_p(X + step) - log_p(X - step)) / (2 * h)
            expected = eps_of_labels(alpha, sigma)[..., j].flatten() - 2.0 * sigma * slope
            torch.testing.assert_close(prediction.eps[..., j].flatten(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [ClassifierFree, lambda s, i: ByClassifier(lambda x, c: x, "noisy", s, i)])
def test_there_is_no_guidance_outside_the_interval(make) -> None:  # type: ignore[no-untyped-def]
    model, time, _, _ = setting(LinearSchedule(), 0.9)
    plain, guided = Unguided()(model, LABELS)(X, time), make(5.0, (0.2, 0.8))(model, LABELS)(X, time)
    assert torch.equal(plain.eps, guided.eps) and torch.equal(plain.x0, guided.x0)


def test_scale_one_is_the_identity_bit_for_bit() -> None:
    model, time, _, _ = setting(LinearSchedule(), 0.5)
    assert torch.equal(ClassifierFree(1.0)(model, LABELS)(X, time).eps, model(X, time, LABELS).eps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassifierFree(1.0, (0.5, 0.2)), "interval: must be"),
        (lambda: ByClassifier(lambda x, c: x, "noisy", 1.0, (-0.1, 0.5)), "interval: must be"),
        (lambda: ByClassifier(lambda x, c: x, "dirty"), "reads: must be"),  # type: ignore[arg-type]
        (lambda: ClassifierFree()(setting(LinearSchedule(), 0.5)[0], None), "guidance: cfg needs"),
        (
            lambda: ByClassifier(lambda x, c: x)(setting(LinearSchedule(), 0.5)[0], None),
            "label: must be set for classifier guidance",
        ),
    ],
)
def test_wrong_values_and_missing_labels_are_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


class SmallGradient(nn.Module):
    """Like a trained classifier far from any image: its gradient is small but never zero."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        logit = 0.01 * x.flatten(1).sum(1)
        return torch.stack([logit, -logit], 1)


@pytest.mark.parametrize("reads", ["noisy", "clean"])
@pytest.mark.parametrize("schedule", [FlowSchedule(), CosineSchedule(), CosineSchedule(zero_terminal_snr=True)])
def test_pure_noise_is_not_guided(schedule: Schedule, reads: str) -> None:
    target = Velocity() if isinstance(schedule, FlowSchedule) else V()
    model = Denoiser(Linear(), schedule, target)
    time = torch.ones((), dtype=torch.float64)
    guided = ByClassifier(SmallGradient(), reads, scale=3.0)(model, LABELS)(X, time)  # type: ignore[arg-type]
    plain = model(X, time, LABELS)
    assert torch.equal(guided.x0, plain.x0) and torch.equal(guided.eps, plain.eps)
    soon = torch.tensor(0.95, dtype=torch.float64)  # guidance is active where there is some signal
    assert not torch.equal(
        ByClassifier(SmallGradient(), reads, scale=3.0)(model, LABELS)(X, soon).x0,  # type: ignore[arg-type]
        model(X, soon, LABELS).x0,
    )


class Linear(nn.Module):
    def forward(self, x: Tensor, c: Tensor, y: Tensor | None) -> Tensor:
        return 0.1 * x
