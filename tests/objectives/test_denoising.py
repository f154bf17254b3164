"""The denoising loss, on networks with known outputs."""

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.data.images import Batch
from ddpm_cli.diffusion.continuous import EDMSchedule, FlowSchedule
from ddpm_cli.diffusion.denoiser import Denoiser, SelfConditioning
from ddpm_cli.diffusion.schedule import CosineSchedule, LinearSchedule, Schedule
from ddpm_cli.diffusion.target import EDM, X0, Epsilon, Target, V, Velocity
from ddpm_cli.models.unet_classifier import UNetClassifier
from ddpm_cli.objectives.classify import Classify
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.objectives.times import Importance
from ddpm_cli.objectives.weighting import MinSNR
from ddpm_cli.training.randomness import StepRandom

CPU = torch.device("cpu")
IMAGES = Batch(torch.linspace(-1, 1, 2 * 16).view(8, 1, 2, 2), torch.arange(8))


class Spy(nn.Module):
    """Outputs the constant `answer` and records its inputs."""

    def __init__(self, answer: float = 0.0, out: int = 1, self_condition: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(answer))
        self.out, self.self_condition = out, self_condition
        self.inputs: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, c: Tensor, y: Tensor) -> Tensor:
        self.inputs.append((x.detach(), c, y))
        return self.weight.expand(len(x), self.out, *x.shape[2:])


def step_random(step: int = 0, batch: Batch = IMAGES) -> StepRandom:
    return StepRandom(0, step, CPU, len(batch.x))


def drawn(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """t and eps as the objective draws them from `step_random()`."""
    rng = step_random()
    return schedule.training_time(rng.uniform()), rng.normal(1, 2, 2)


@pytest.mark.parametrize("target", [Epsilon(), X0(), V(), Velocity(), EDM()], ids=lambda t: type(t).__name__)
def test_the_loss_is_the_mean_squared_error_of_the_target(target: Target) -> None:
    schedule = CosineSchedule()
    objective = Denoising(target)
    spy = Spy(0.25)
    loss = objective(objective.wrap(spy, schedule), IMAGES, step_random())
    t, eps = drawn(schedule)
    alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule(t))
    scale = target.input_scale(alpha, sigma) if isinstance(target, EDM) else 1
    torch.testing.assert_close(spy.inputs[0][0], scale * (alpha * IMAGES.x + sigma * eps))
    torch.testing.assert_close(spy.inputs[0][1], schedule.conditioning(t))
    expected = (0.25 - target.compute(IMAGES.x, eps, alpha, sigma)).square().mean()
    torch.testing.assert_close(loss.value, expected)
    torch.testing.assert_close(loss.logs["loss"], expected)


def test_each_image_has_its_own_weight() -> None:
    schedule, objective = LinearSchedule(), Denoising(V(), MinSNR(5.0))
    loss = objective(objective.wrap(Spy(), schedule), IMAGES, step_random())
    t, eps = drawn(schedule)
    alpha, sigma = (v.view(-1, 1, 1, 1) for v in schedule(t))
    ratio = (alpha / sigma) ** 2
    weight = ratio.clamp(max=5) / (ratio + 1)
    torch.testing.assert_close(loss.value, (weight * (alpha * eps - sigma * IMAGES.x) ** 2).mean())


@pytest.mark.parametrize(
    ("target", "schedule", "variance"),
    [(EDM(0.5), EDMSchedule(), None), (Epsilon(), EDMSchedule(), 1), (Epsilon(), LinearSchedule(), 1)],
    ids=["edm", "eps_exploding", "eps_preserving"],
)
def test_the_network_gets_inputs_of_unit_variance(target: Target, schedule: Schedule, variance: int | None) -> None:
    """For images of unit variance (sigma_data = 0.5 with EDM), at any time."""
    g = torch.Generator().manual_seed(0)
    std = 0.5 if variance is None else 1.0
    x0, eps = std * torch.randn(1, 1, 200, 200, generator=g), torch.randn(1, 1, 200, 200, generator=g)
    for t in (1e-3, 0.1, 1.0):
        spy, time = Spy(), torch.tensor([t])
        model = Denoiser(spy, schedule, target)
        model(model.diffuse(x0, eps, time), time)
        assert float(spy.inputs[0][0].std()) == pytest.approx(1, abs=0.03)


def test_labels_are_hidden_only_in_training() -> None:
    batch = Batch(torch.zeros(4000, 1, 2, 2), torch.full((4000,), 3))
    objective, spy = Denoising(Epsilon(), label_dropout=0.2), Spy()
    model = objective.wrap(spy, LinearSchedule())
    objective(model, batch, step_random(batch=batch))
    hidden = spy.inputs[0][2] == -1
    assert abs(float(hidden.float().mean()) - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 4000)
    assert bool((spy.inputs[0][2][~hidden] == 3).all())
    objective(model.eval(), batch, step_random(batch=batch))
    assert bool((spy.inputs[1][2] == 3).all())


def test_self_conditioning_feeds_back_the_estimate_in_half_of_the_steps() -> None:
    objective, spy = Denoising(X0()), Spy(0.5, self_condition=True)
    model = objective.wrap(spy, CosineSchedule())
    calls = []
    for step in range(60):
        spy.inputs.clear()
        objective(model, IMAGES, step_random(step)).value.backward()
        calls.append(len(spy.inputs))
        x0_estimate = spy.inputs[-1][0][:, 1:]
        assert bool((x0_estimate == (0.5 if len(spy.inputs) == 2 else 0.0)).all())  # the network predicts x0 = 0.5
        assert bool((spy.inputs[0][0][:, 1:] == 0).all())
    assert set(calls) == {1, 2} and 15 < calls.count(2) < 45
    spy.weight.grad = None
    objective(model.eval(), IMAGES, step_random(0))
    assert len(spy.inputs[-2:]) == 2 and bool((spy.inputs[-1][0][:, 1:] == 0.5).all())


def test_sampling_feeds_back_the_previous_estimate() -> None:
    spy = Spy(0.5, self_condition=True)
    denoise = SelfConditioning(Denoiser(spy, CosineSchedule(), X0()))
    for t in (1.0, 0.5):
        denoise(IMAGES.x, torch.tensor(t))
    assert bool((spy.inputs[0][0][:, 1:] == 0).all()) and bool((spy.inputs[1][0][:, 1:] == 0.5).all())


class TwoHeads(nn.Module):
    def __init__(self, mean: float, share: float):
        super().__init__()
        self.mean, self.share = nn.Parameter(torch.tensor(mean)), nn.Parameter(torch.tensor(share))

    def forward(self, x: Tensor, c: Tensor, y: Tensor) -> Tensor:
        return torch.cat([self.mean.expand_as(x), self.share.expand_as(x)], 1)


def test_the_bound_trains_the_variance_but_not_the_mean() -> None:
    """L_hybrid (Nichol & Dhariwal 2021, eq. 16): the gradient of the mean is that of L_simple."""
    gradients = {}
    for name, weight in (("simple", 0.0), ("hybrid", 0.001)):
        objective = Denoising(Epsilon(), learned_variance=True, bound_weight=weight)
        heads = TwoHeads(0.1, 0.3)
        loss = objective(objective.wrap(heads, LinearSchedule()), IMAGES, step_random())
        loss.value.backward()
        gradients[name] = (heads.mean.grad, heads.share.grad)
        assert set(loss.logs) == {"loss", "bound"}
    assert float(gradients["simple"][1]) == 0 and float(gradients["hybrid"][1]) != 0  # type: ignore[arg-type]
    torch.testing.assert_close(gradients["simple"][0], gradients["hybrid"][0])


@pytest.mark.parametrize(
    ("target", "schedule"),
    [
        (V(), EDMSchedule()),
        (V(), FlowSchedule()),
        (Epsilon(), FlowSchedule()),
        (Epsilon(), LinearSchedule(zero_terminal_snr=True)),
    ],
)
def test_incompatible_targets_and_schedules_are_refused(target: Target, schedule: Schedule) -> None:
    with pytest.raises(ValueError, match=r"^objective: .*; use |^objective: .*use "):
        Denoising(target).wrap(Spy(), schedule)


def test_a_classifier_draws_by_importance_and_validates_evenly() -> None:
    """The factor corrects the loss; validation does not change the buffers that are saved."""
    torch.manual_seed(0)
    batch = Batch(torch.zeros(64, 1, 4, 4), torch.arange(64) % 2)
    times = Importance(bins=4, seen=1)
    times.moment.copy_(torch.tensor([1.0, 4.0, 9.0, 16.0]))
    times.images.fill_(10)
    times.fresh.fill_(5)  # from the previous step, added in the next one
    times.fresh_images.fill_(1)
    objective = Classify(times=times)
    module = UNetClassifier(1, 4, channels=8, multipliers=(1,), attention_resolutions=(), num_classes=2, dropout=0.0)
    model = objective.wrap(module, CosineSchedule())
    before = {k: v.clone() for k, v in times.state_dict().items()}
    objective(model.eval(), batch, step_random(0, batch))
    assert all(torch.equal(v, before[k]) for k, v in times.state_dict().items())
    nn.init.zeros_(module.out.weight)  # every image then has a loss of ln 2, times its factor
    _, factor = deepcopy(times).draw(CosineSchedule(), step_random(0, batch))
    loss = objective(model.train(), batch, step_random(0, batch))
    assert factor is not None and float(factor.std()) > 0.1
    torch.testing.assert_close(loss.value, math.log(2) * factor.mean())
    assert float(times.fresh_images.sum()) == 64


@pytest.mark.parametrize("noisy", [True, False])
def test_a_classifier_learns(noisy: bool) -> None:
    """Two classes that differ in brightness are separated after a few steps, almost perfectly on clean images."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(1)
    y = torch.randint(0, 2, (64,), generator=g)
    batch = Batch((2.0 * y - 1).view(-1, 1, 1, 1) * 0.8 + 0.1 * torch.randn(64, 1, 4, 4, generator=g), y)
    objective = Classify(noisy=noisy)
    module = UNetClassifier(1, 4, channels=8, multipliers=(1,), attention_resolutions=(4,), num_classes=2, dropout=0.0)
    model = objective.wrap(module, CosineSchedule())
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    first = objective(model, batch, step_random(0, batch)).logs
    for step in range(30):
        optimizer.zero_grad()
        objective(model, batch, step_random(step, batch)).value.backward()
        optimizer.step()
    last = objective(model.eval(), batch, step_random(0, batch)).logs
    assert float(last["loss"]) < 0.5 * float(first["loss"])
    assert float(last["accuracy"]) > (0.8 if noisy else 0.99)
