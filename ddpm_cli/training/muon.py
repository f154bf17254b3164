"""Muon: orthogonalised momentum for weights that are matrices, AdamW for all others."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..hardware.formats import product_format

POLYNOMIAL = (3.4445, -4.7750, 2.0315)
"""Jordan et al. 2024: each pass moves all singular values towards 1; five passes bring them to about [0.7, 1.2]."""
PASSES = 5
WIDE = 2
"""Above this many columns per row, the passes of a matrix in float32 are computed on x x^T alone, see `_by_gram`."""


class Muon(Optimizer):
    """W <- W - lr (0.2 sqrt(max(m, n)) O + weight_decay W), O the nearest orthogonal matrix to the momentum (m, n).

    "Muon: an optimizer for hidden layers in neural networks", Jordan et al. 2024. The factor makes an update as large
    as Adam's, so that both share one learning rate (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4). The
    weight (O,I,H,W) of a convolution is treated as a matrix (O,HWI). Vectors, and matrices with a side below
    `least_side` (the first and last layers of a network, class embeddings), are updated by AdamW.

    Args:
        lr: the learning rate of both.
        momentum: Nesterov momentum of the matrices, in [0, 1).
        betas, eps: of AdamW.
        weight_decay: of both, multiplied by lr.
        least_side: a weight whose shorter side is at least this counts as a matrix.

    Raises:
        ValueError: a number out of range, named first.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        least_side: int = 16,
    ):
        for name, value in (("momentum", momentum), ("betas", betas[0]), ("betas", betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"{name}: must be in [0, 1), got {value}")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:  # NaN too
                raise ValueError(f"{name}: must be at least 0, got {value}")
        defaults = {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"least_side": least_side})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step with the current gradients. `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            matrices = [p for p in used if is_matrix(p, group["least_side"])]
            for p in matrices:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            if matrices and matrices[0].device.type != "cpu":
                self._update_together(matrices, group)
            else:
                for p in matrices:
                    self._update_matrix(p, group)
            self._adam([p for p in used if not is_matrix(p, group["least_side"])], group)

    def _update_together(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """As `_update_matrix`, with one product for all matrices of one shape.

        A GPU takes as long for a small product as for its launch, and a network has hundreds of matrices.
        """
        gradients = [p.grad for p in params if p.grad is not None]
        momenta = [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        shapes: dict[torch.Size, list[int]] = {}
        for i, gradient in enumerate(ahead):
            shapes.setdefault(as_matrix(gradient).shape, []).append(i)
        for shape, same in shapes.items():
            updates = orthogonalized_together(torch.stack([as_matrix(ahead[i]) for i in same]))
            scale = 0.2 * max(shape) ** 0.5
            torch._foreach_add_([as_matrix(params[i]) for i in same], updates.unbind(), alpha=-group["lr"] * scale)

    def _update_matrix(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        ahead = p.grad.lerp(state["momentum"], group["momentum"])
        flat = as_matrix(ahead)
        update = orthogonalized(flat)
        scale = 0.2 * max(flat.shape) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        as_matrix(p).add_(update, alpha=-group["lr"] * scale)

    def _adam(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Adam with decoupled weight decay, all tensors in one call."""
        if not params:
            return
        for p in params:
            if not self.state[p]:
                zeros = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] |= {"step": torch.tensor(0.0), **zeros}
        torch.optim._functional.adamw(
            list[Tensor](params),
            [p.grad for p in params if p.grad is not None],
            [self.state[p]["exp_avg"] for p in params],
            [self.state[p]["exp_avg_sq"] for p in params],
            [],
            [self.state[p]["step"] for p in params],
            foreach=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def is_matrix(weight: Tensor, least_side: int) -> bool:
    """Whether a weight is a matrix or a convolution with at least `least_side` rows and columns."""
    if weight.ndim not in (2, 4) or not weight.numel():
        return False
    plain = weight.ndim == 2 or weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    return plain and min(len(weight), weight[0].numel()) >= least_side


def as_matrix(weight: Tensor) -> Tensor:
    """A view as a matrix: (O,I,H,W) -> (O,HWI) if the memory format is channels_last, else (O,IHW)."""
    if weight.ndim == 2:
        return weight
    channels_last = weight.permute(0, 2, 3, 1)
    return channels_last.view(len(weight), -1) if channels_last.is_contiguous() else weight.view(len(weight), -1)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Approximates U V^T for a matrix U S V^T: its singular values are near 1. Only matrix products.

    In bfloat16 where the hardware has it: the passes correct the rounding errors of those before.
    """
    a, b, c = POLYNOMIAL
    x = matrix.to(product_format(matrix.device))
    tall = len(x) > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    if x.dtype != torch.bfloat16 and x.shape[1] > WIDE * len(x):
        x = _by_gram(x)
    else:
        for _ in range(PASSES):
            gram = x @ x.mT
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrix.dtype)


def orthogonalized_together(matrices: Tensor) -> Tensor:
    """As `orthogonalized`, for matrices (K,m,n) of one shape, with one product for all of them in each pass."""
    a, b, c = POLYNOMIAL
    x = matrices.to(product_format(matrices.device))
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(PASSES):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def _by_gram(x: Tensor) -> Tensor:
    """The same passes with fewer operations for a wide matrix x (m, n).

    All passes multiply x from the left by polynomials of G = x x^T (m, m), which commute: x <- Q x, G <- Q G Q. So only
    the first and the last product are as large as x. Squaring the singular values costs half of the digits, which
    float32 can spare and bfloat16 cannot.
    """
    a, b, c = POLYNOMIAL
    gram, product = x @ x.mT, torch.eye(len(x), dtype=x.dtype, device=x.device)
    for done in range(PASSES):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product if done else factor
        if done < PASSES - 1:
            gram = factor @ gram @ factor
    return product @ x
