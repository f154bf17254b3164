"""The evidence lower bound, compared with exact likelihoods."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ddpm_cli.data.images import Batch
from ddpm_cli.diffusion.noise import ImageNoise
from ddpm_cli.diffusion.oracle import GaussianMixture
from ddpm_cli.diffusion.schedule import LinearSchedule
from ddpm_cli.models.latent import Autoencoder
from ddpm_cli.models.vae import VAE
from ddpm_cli.objectives.elbo import ELBO, kl_of_normal
from ddpm_cli.objectives.latent import LatentModel, elbo, importance_weighted, log_weights
from ddpm_cli.training.randomness import StepRandom

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small(**options: object) -> VAE:
    torch.manual_seed(0)
    return VAE(1, 6, channels=4, encoder_width=16, decoder_width=16, latent=3, prior="normal", **options)  # type: ignore[arg-type]


def loss(objective: ELBO, model: LatentModel, x: Tensor, step: int = 0) -> dict[str, float]:
    out = objective(model, Batch(x, torch.zeros(len(x), dtype=torch.int64)), StepRandom(0, step, CPU, len(x)))
    return {"value": float(out.value.detach())} | {name: float(v) for name, v in out.logs.items()}


def test_the_kl_divergence_equals_torchs() -> None:
    mean, log_var = torch.randn(5, 4), torch.randn(5, 4)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    assert kl_of_normal(mean, log_var).allclose(expected, atol=1e-6)


@torch.no_grad()
def test_the_loss_equals_its_formula() -> None:
    x = torch.rand(8, 1, 6, 6) * 2 - 1
    for kind, beta in (("bernoulli", 1.0), ("gaussian", 2.0), ("continuous_bernoulli", 0.0)):
        objective = ELBO(kind, 0.5, beta)  # type: ignore[arg-type]
        model = objective.wrap(small(), LinearSchedule())
        result = loss(objective, model, x)
        mean, log_var = model.encode(x)
        z = mean + (0.5 * log_var).exp() * StepRandom(0, 0, CPU, 8).normal(3)
        out, v = model.decode(z), (x + 1) / 2
        if kind == "bernoulli":
            expected = nn.functional.binary_cross_entropy(out.sigmoid(), v, reduction="sum") / 8
        elif kind == "gaussian":
            squares = (x - (2 * out.sigmoid() - 1)).square()
            expected = (squares / (2 * 0.5) + 0.5 * math.log(2 * math.pi * 0.5)).sum() / 8
        else:
            expected = -torch.distributions.ContinuousBernoulli(logits=out).log_prob(v).sum() / 8
        kl = kl_of_normal(mean, log_var).sum() / 8
        assert result["reconstruction"] == pytest.approx(float(expected), rel=1e-4, abs=1e-3)
        assert result["kl"] == pytest.approx(float(kl), rel=1e-5)
        assert result["loss"] == pytest.approx(result["reconstruction"] + beta * result["kl"], rel=1e-5)
        assert result["value"] == pytest.approx(result["loss"] / 36, rel=1e-5)


def test_free_bits_are_the_least_cost_of_a_dimension_in_training() -> None:
    objective, x = ELBO(free_bits=2.0), torch.rand(8, 1, 6, 6) * 2 - 1
    model = objective.wrap(small(), LinearSchedule())
    result = loss(objective, model, x)
    assert result["kl"] < 2 and result["loss"] == pytest.approx(result["reconstruction"] + 3 * 2.0, rel=1e-5)
    module = model.backbone
    objective(model, Batch(x, torch.zeros(8, dtype=torch.int64)), StepRandom(0, 0, CPU, 8)).value.backward()
    with_free = module.mean.weight.grad.clone()
    module.zero_grad()
    plain = ELBO(beta=0.0)
    plain(model, Batch(x, torch.zeros(8, dtype=torch.int64)), StepRandom(0, 0, CPU, 8)).value.backward()
    assert module.mean.weight.grad.allclose(with_free)  # the KL divergence has no gradient below the free bits
    model.eval()
    result = loss(objective, model, x)
    assert result["loss"] == pytest.approx(result["reconstruction"] + result["kl"], rel=1e-5)


def test_values_out_of_range_and_other_networks_are_refused() -> None:
    for options, key in (({"beta": -1.0}, "beta"), ({"variance": 0.0}, "variance"), ({"free_bits": -1.0}, "free")):
        with pytest.raises(ValueError, match=key):
            ELBO(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="objective: elbo needs an autoencoder"):
        ELBO().wrap(nn.Linear(2, 2), LinearSchedule())


class Plane(Autoencoder):
    """Points of the plane as images of 1x1x2."""

    def __init__(self) -> None:
        super().__init__(1, (1, 2), 2, "gaussian", None, "gmm", 4)

        def net(out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(2, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, out))

        self.encoder, self.decoder = net(4), net(2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).view(-1, 1, 1, 2)


@pytest.fixture(scope="module")
def fitted() -> tuple[GaussianMixture, LatentModel, float, float]:
    """A mixture, a model trained on its points, and their mean ELBO before and after training."""
    mixture = GaussianMixture.of([0.3, 0.3, 0.4], [[-0.5, 0.4], [0.4, 0.5], [0.0, -0.5]], [0.1, 0.12, 0.08])
    objective = ELBO("gaussian")
    torch.manual_seed(0)
    model = objective.wrap(Plane(), LinearSchedule())
    g = torch.Generator().manual_seed(0)
    points = mixture.sample(4096, g).float().view(-1, 1, 1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    before = -loss(objective, model, points)["loss"]
    for step in range(400):
        x = points[torch.randint(0, 4096, (256,), generator=g)]
        out = objective(model, Batch(x, torch.zeros(256, dtype=torch.int64)), StepRandom(0, step, CPU, 256))
        optimizer.zero_grad()
        out.value.backward()
        optimizer.step()
    return mixture, model.eval(), before, -loss(objective, model, points)["loss"]


def weights_of(model: LatentModel, x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """(K,B) log-weights with both priors, or twice the normal one."""
    with torch.no_grad():
        w = log_weights(model, x, x.double(), samples, ImageNoise(range(len(x))))
    return w.of(w.normal), w.of(w.normal if w.mixture is None else w.mixture)


def test_the_exact_likelihood_of_a_mixture_is_above_the_bounds(
    fitted: tuple[GaussianMixture, LatentModel, float, float],
) -> None:
    mixture, model, before, after = fitted
    x = mixture.sample(3000, torch.Generator().manual_seed(7))
    exact = mixture.log_prob(x)
    log_w, _ = weights_of(model, x.float().view(-1, 1, 1, 2), 30)
    lower, tighter = elbo(log_w), importance_weighted(log_w)
    assert after > before + 1  # the model has learned
    gap = exact - tighter  # its mean is at least KL(p || model), which is positive
    error = float(gap.std() / math.sqrt(len(gap)))
    assert float(gap.mean()) > -3 * error and float(gap.mean()) < 1
    assert float((exact - lower).mean()) > float(gap.mean()) > 0
    assert bool((tighter >= lower - 1e-9).all())  # by Jensen's inequality, for the same samples


def test_more_samples_give_a_tighter_bound(fitted: tuple[GaussianMixture, LatentModel, float, float]) -> None:
    mixture, model, *_ = fitted
    x = mixture.sample(2000, torch.Generator().manual_seed(8)).float().view(-1, 1, 1, 2)
    log_w, _ = weights_of(model, x, 64)
    means = [float(importance_weighted(w).mean()) for w in (log_w[:1], log_w[1:9], log_w)]
    assert means[0] < means[1] < means[2]
    assert means[0] == pytest.approx(float(elbo(log_w).mean()), abs=0.15)


def test_the_bound_is_exact_when_q_is_the_posterior() -> None:
    """If the decoder ignores z and q is the prior, all weights are p(x)."""

    class Blind(Plane):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(x), 2), torch.zeros(len(x), 2)

        def decode(self, z: Tensor) -> Tensor:
            return torch.zeros(len(z), 1, 1, 2)

    model, x = LatentModel(Blind(), "gaussian", 0.5), torch.randn(6, 1, 1, 2)
    log_w, same = weights_of(model, x, 5)
    expected = Normal(0.0, math.sqrt(0.5)).log_prob(x).flatten(1).sum(1).double()
    assert elbo(log_w).allclose(expected, atol=1e-5) and importance_weighted(log_w).allclose(expected, atol=1e-5)
    assert same.equal(log_w)  # no mixture was fitted


def test_a_mixture_prior_counts_with_its_density() -> None:
    model = LatentModel(Plane(), "gaussian", 0.5)
    model.backbone.mixture.fill(torch.tensor([1.0]), torch.zeros(1, 2), torch.eye(2)[None])
    x = torch.randn(6, 1, 1, 2)
    normal, mixed = weights_of(model, x, 5)
    assert normal.allclose(mixed, atol=1e-5)
    model.backbone.mixture.fill(torch.tensor([1.0]), torch.ones(1, 2), torch.eye(2)[None])
    assert not normal.allclose(weights_of(model, x, 5)[1], atol=1e-2)


def test_reconstructions_use_a_sample_of_q_not_its_mean() -> None:
    """If q(z|x) is the prior, z is a sample of N(0, I), not 0."""

    class Blind(nn.Module):
        latent, log_variance, mixture = 2, None, None

        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(x), 2), torch.zeros(len(x), 2)

        def decode(self, z: Tensor) -> Tensor:
            return z.view(-1, 1, 1, 2)

    model, eps = LatentModel(Blind(), "gaussian", 1.0), torch.tensor([[0.5, -2.0], [1.0, 3.0]])
    assert torch.equal(model.reconstruct(torch.zeros(2, 1, 1, 2), eps), torch.tanh(eps / 2).view(2, 1, 1, 2))
