"""The learning rate, the length of a run, the average of the weights, random numbers."""

import pytest
import torch

from ddpm_cli.training.ema import EMA, Decay
from ddpm_cli.training.plan import Plan
from ddpm_cli.training.randomness import StepRandom, seed_of


def test_warmup_then_constant() -> None:
    plan = Plan(warmup_steps=4)
    assert [plan.learning_rate(step, 100, 1000) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_warmup_then_half_a_cosine() -> None:
    plan = Plan(warmup_steps=10, lr_decay="cosine")
    assert plan.learning_rate(10, 110, 1000) == pytest.approx(1.0)
    assert plan.learning_rate(60, 110, 1000) == pytest.approx(0.5)
    assert plan.learning_rate(109, 110, 1000) < 0.001
    assert plan.learning_rate(500, 110, 1000) == 0  # never negative beyond the planned end


def test_epochs_replace_steps() -> None:
    assert Plan(steps=7, batch_size=10).length(95) == 7
    assert Plan(steps=7, epochs=2, batch_size=10).length(95) == 19


@pytest.mark.parametrize(
    "options",
    [{"keep_last": 1}, {"batch_size": 0}, {"grad_clip": 0.0}, {"max_seconds": -1.0}, {"devices": 2}, {"log_every": -1},
     {"best_by": "val_loss", "eval_every": 0}, {"micro_batch_size": 0}],
)  # fmt: skip
def test_values_out_of_range_are_named(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        Plan(**options)  # type: ignore[arg-type]


def test_ema_follows_its_recursion() -> None:
    module = torch.nn.Linear(2, 1, bias=False)
    ema = EMA(module, Decay(0.9, warmup=False))
    expected = module.weight.detach().clone()
    for n in range(5):
        module.weight.data += n
        expected = 0.9 * expected + 0.1 * module.weight.detach()
        ema.update(n)
    assert torch.allclose(ema.module.weight, expected)  # type: ignore[arg-type]


def test_ema_warmup_starts_short() -> None:
    decay = Decay(0.999)
    assert [decay.at(n) for n in (0, 1, 90)] == [pytest.approx(x) for x in (0.1, 2 / 11, 0.91)]
    assert decay.at(10**6) == 0.999
    with pytest.raises(ValueError, match="^decay: "):
        Decay(1.0)


def test_step_random_is_a_function_of_seed_and_step() -> None:
    cpu = torch.device("cpu")
    one, two = StepRandom(3, 10, cpu, 4), StepRandom(3, 10, cpu, 4)
    assert torch.equal(one.uniform(), two.uniform()) and torch.equal(one.normal(2), two.normal(2))
    other = StepRandom(3, 11, cpu, 4)
    assert not torch.equal(StepRandom(3, 10, cpu, 4).normal(2), other.normal(2))
    again = StepRandom(3, 10, cpu, 4)
    assert not torch.equal(again.normal(2), again.normal(2))


def test_parts_of_a_batch_get_the_noise_of_the_whole() -> None:
    cpu = torch.device("cpu")
    whole = StepRandom(0, 0, cpu, 6).normal(3)
    parts = [StepRandom(0, 0, cpu, 6, slice(a, a + 2)).normal(3) for a in (0, 2, 4)]
    assert torch.equal(whole, torch.cat(parts))


def test_seeds_do_not_collide() -> None:
    assert len({seed_of(a, b, c) for a in range(20) for b in range(20) for c in range(5)}) == 2000
    assert all(0 <= seed_of(a) < 2**63 for a in range(100))


def test_milestones_count_epochs() -> None:
    """45,000 images in batches of 128: epoch 100 begins within step 35,156, epoch 150 within step 52,734."""
    plan = Plan(epochs=180, batch_size=128, lr_decay="steps", lr_milestones=(100, 150), lr_factor=0.1)
    steps = [0, 35_156, 35_157, 52_734, 52_735, 63_281]
    rates = [plan.learning_rate(step, plan.length(45_000), 45_000) for step in steps]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = Plan(batch_size=10, lr_decay="steps", lr_milestones=(0.5,), lr_factor=0.5, warmup_steps=4)
    assert [warm.learning_rate(step, 9, 40) for step in range(5)] == pytest.approx([0.25, 0.5, 0.375, 0.5, 0.5])


@pytest.mark.parametrize("milestones", [(), (0, 10), (-1,)])
def test_milestones_are_needed_and_positive(milestones: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="^lr_milestones: needs positive epochs"):
        Plan(lr_decay="steps", lr_milestones=milestones)
    Plan(lr_decay="cosine", lr_milestones=milestones)  # ignored
    with pytest.raises(ValueError, match="^lr_factor: "):
        Plan(lr_factor=0.0)


def test_the_average_includes_batch_norm_statistics() -> None:
    """A network with batch normalisation uses running means, which have no gradient."""
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    norm = module[0]
    assert isinstance(norm, torch.nn.BatchNorm1d) and norm.running_mean is not None
    ema = EMA(module, Decay(0.9, warmup=False))
    expected = norm.running_mean.clone()
    for n in range(5):
        module(torch.randn(8, 2) + 3)
        ema.update(n)
        expected = 0.9 * expected + 0.1 * norm.running_mean
    average = ema.module[0]  # type: ignore[index]
    assert torch.allclose(average.running_mean, expected) and expected.min() > 0.1
    assert average.num_batches_tracked == norm.num_batches_tracked == 5
