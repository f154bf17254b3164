"""Muon against torch's own (which supports matrices only) and against AdamW."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.training import muon
from ddpm_cli.training.muon import Muon, as_matrix, is_matrix, orthogonalized


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def give_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    g = generator(seed)
    for p in parameters:
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=g))


@pytest.mark.parametrize("shape", [(48, 20), (20, 48), (32, 32)])
def test_every_singular_value_ends_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=generator(0))
    u, before, vh = torch.linalg.svd(matrix, full_matrices=False)
    after = (u.mT @ orthogonalized(matrix) @ vh.mT).diagonal()  # along the same singular vectors
    assert before.max() / before.min() > 3
    assert after.min() > 0.6 and after.max() < 1.3


@pytest.mark.parametrize("shape", [(16, 200), (200, 16), (20, 30), (32, 32), (1, 40)])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4])
def test_in_float32_wide_matrices_take_the_same_passes(
    shape: tuple[int, int], smallest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=generator(3)), full_matrices=False)
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), min(shape))
    matrix = u @ values.diag() @ vh
    monkeypatch.setattr(muon, "product_format", lambda device: torch.float32)
    x = values.double() / (values.double().norm() + 1e-7)
    for _ in range(muon.PASSES):
        a, b, c = muon.POLYNOMIAL
        x = a * x + b * x**3 + c * x**5
    exact = u.double() @ x.diag() @ vh.double()
    assert torch.allclose(orthogonalized(matrix).double(), exact, atol=2e-4)


def test_matrices_of_one_shape_are_updated_together_as_one_by_one() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(16, 24, 3),
            nn.Conv2d(24, 24, 3),
            nn.Conv2d(24, 24, 3),
            nn.Linear(24, 80),
            nn.Linear(80, 24),
        ]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    alone, together = network(), network()
    one, other = (Muon(m.parameters(), lr=0.02, weight_decay=0.1) for m in (alone, together))
    before = deepcopy(alone)
    for step in range(3):
        for module in (alone, together):
            give_gradients(list(module.parameters()), step)
        one.step()
        group = other.param_groups[0]
        matrices = [p for p in group["params"] if is_matrix(p, group["least_side"])]
        for p in matrices:
            other.state[p].setdefault("momentum", torch.zeros_like(p))
        with torch.no_grad():
            other._update_together(matrices, group)  # as on a GPU
    for start, a, b in zip(before.parameters(), alone.parameters(), together.parameters(), strict=True):
        if is_matrix(a, 16):
            assert (a - start).norm() > 0.1
            assert (a - b).norm() < 0.02 * (a - start).norm()  # both round to bfloat16 where that is native
            assert b.stride() == start.stride()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_matrices_are_updated_as_by_torch(shape: tuple[int, int]) -> None:
    ours = nn.Parameter(torch.randn(shape, generator=generator(1)))
    theirs = nn.Parameter(ours.detach().clone())
    mine = Muon([ours], lr=0.02, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        give_gradients([ours], step)
        theirs.grad = ours.grad.clone()  # type: ignore[union-attr]
        mine.step()
        other.step()
    assert torch.allclose(ours, theirs, atol=2e-3)  # both orthogonalise in bfloat16
    assert not torch.allclose(ours, torch.zeros_like(ours), atol=0.1)


def test_other_weights_are_updated_as_by_adamw() -> None:
    shapes = [(5,), (40, 3), (3, 40), (4, 8, 3, 3)]
    ours = [nn.Parameter(torch.randn(s, generator=generator(2))) for s in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    mine = Muon(ours, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    other = torch.optim.AdamW(theirs, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        mine.step()
        other.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_what_counts_as_a_matrix() -> None:
    yes = [(16, 16), (64, 4, 3, 3)]
    no = [(64,), (0, 64), (32, 32, 3), (32, 16, 3, 3, 3), (10, 64), (64, 10), (4, 64, 3, 3)]
    assert all(is_matrix(torch.empty(s), 16) for s in yes)
    assert not any(is_matrix(torch.empty(s), 16) for s in no)


def test_the_layout_of_a_convolution_changes_nothing() -> None:
    weight = torch.randn(24, 32, 3, 3, generator=generator(3))
    moved: list[Tensor] = []
    for layout in (torch.contiguous_format, torch.channels_last):
        p = nn.Parameter(weight.clone().to(memory_format=layout))
        assert as_matrix(p.data).data_ptr() == p.data_ptr()
        optimizer = Muon([p], lr=0.1)
        give_gradients([p], 4)
        optimizer.step()
        moved.append(p.detach().contiguous())
    assert torch.allclose(*moved, atol=2e-3) and not torch.allclose(moved[0], weight, atol=0.01)


def test_it_resumes_from_its_state_bit_for_bit() -> None:
    parameters = [nn.Parameter(torch.randn(s, generator=generator(5))) for s in ((20, 30), (7,))]
    optimizer = Muon(parameters)
    give_gradients(parameters, 0)
    optimizer.step()
    copies = [nn.Parameter(p.detach().clone()) for p in parameters]
    resumed = Muon(copies)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    give_gradients(parameters, 1)
    give_gradients(copies, 1)
    optimizer.step()
    resumed.step()
    assert all(torch.equal(a, b) for a, b in zip(parameters, copies, strict=True))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"lr": -1.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"eps": -1.0}, "eps"),
    ],
)
def test_numbers_out_of_range_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        Muon([nn.Parameter(torch.zeros(3))], **options)  # type: ignore[arg-type]
