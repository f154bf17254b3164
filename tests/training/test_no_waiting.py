"""Neither a training step nor a sampler step makes the host wait for the device."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_cli.diffusion.generate import denoise_of, run_sampler
from ddpm_cli.diffusion.guidance import ClassifierFree
from ddpm_cli.diffusion.samplers import DDIM, DDPM, DPMpp2M, Euler, Heun, Sampler, UniPC
from ddpm_cli.diffusion.target import EDM, V
from ddpm_cli.objectives.base import Objective
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.objectives.times import Importance, LogNormal, Stratified
from ddpm_cli.training import loop, randomness
from ddpm_cli.training.ema import EMA, Decay
from ddpm_cli.training.plan import Plan
from ddpm_cli.training.state import TrainState

from ..conftest import TINY, Cli
from .tiny import TinyTraining, unet


class Watch(TorchDispatchMode):
    """Records copies between host and device, and operations that read the value of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        if name == "_to_copy" and args[0].device != out.device:
            self.seen.append(f"{args[0].device} -> {out.device}")
        if name == "copy_" and args[0].device != args[1].device:
            self.seen.append(f"{args[1].device} -> {args[0].device}")
        if name in ("_local_scalar_dense", "nonzero") and args[0].device.type != "cpu":
            self.seen.append(name)
        return out


@pytest.fixture
def imaginary_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors on a CUDA device that does not exist. Reading a value raises. Autograd does not work on it."""
    if not torch.backends.cuda.is_built():
        pytest.skip("this torch is built without CUDA")
    monkeypatch.setattr(randomness.StepRandom, "_generator", lambda self: None)
    monkeypatch.setattr(loop, "seed_step", lambda *_: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def step_twice(made: TinyTraining, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the second step waits for; the first may copy constants to the device."""
    made.state.module.to("cuda")
    state = TrainState(
        made.state.module, torch.optim.Adam(made.state.module.parameters(), fused=True), EMA(made.state.module, Decay())
    )

    def backward(self: Tensor) -> None:
        for parameter in state.parameters:
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    batch = loop.Batch(torch.zeros(4, 1, 8, 8, device="cuda"), torch.zeros(4, dtype=torch.int64, device="cuda"))
    for _ in range(2):
        with Watch() as watch:
            loop.update(made.objective, made.model, state, batch, made.plan, 0)
    assert state.step == 2
    return watch.seen


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
@pytest.mark.parametrize(
    "objective",
    [Denoising(V()), Denoising(V(), times=Stratified()), Denoising(EDM(), times=LogNormal()),
     Denoising(V(), times=Importance()), Denoising(V(), learned_variance=True)],
    ids=["v", "stratified", "edm", "importance", "learned_variance"],
)  # fmt: skip
@pytest.mark.parametrize("part", [None, 2])
def test_a_training_step_does_not_wait_for_the_device(
    objective: Objective, part: int | None, imaginary_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = getattr(objective, "learned_variance", False)
    with contextlib.ExitStack() as real:
        real.enter_context(torch._subclasses.fake_tensor.unset_fake_temporarily())
        plan = Plan(batch_size=4, compile=False, precision="fp32", micro_batch_size=part)
        made = TinyTraining(plan, unet(learned_variance=learned), objective)
    assert step_twice(made, monkeypatch) == []


class ReadsItsLoss(Denoising):
    def __call__(self, model: Any, batch: Any, rng: Any) -> Any:
        loss = super().__call__(model, batch, rng)
        assert float(loss.value) >= 0
        return loss


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_a_step_that_waits_is_detected(imaginary_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        made = TinyTraining(Plan(batch_size=4, compile=False, precision="fp32"), None, ReadsItsLoss(V()))
    with pytest.raises(DataDependentOutputException):
        step_twice(made, monkeypatch)


SAMPLERS: list[Sampler] = [
    DDIM(steps=3), DDIM(steps=3, eta=1.0), DDIM(steps=3, threshold=0.9), DDPM(steps=3), DPMpp2M(steps=3),
    UniPC(steps=3, order=3), Heun(steps=3, s_churn=1.0), Euler(steps=3),
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("guided", [False, True])
def test_a_sampler_does_not_wait_for_the_device(
    sampler: Sampler, guided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors on the meta device have no values to read or copy."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it does not support "meta"
    model = TinyTraining(Plan(compile=False, precision="fp32")).model.to("meta").eval()
    x, labels = torch.zeros(4, 1, 8, 8, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    denoise = denoise_of(model, labels, ClassifierFree() if guided else None)  # type: ignore[arg-type]
    with Watch() as watch:
        frames = list(run_sampler(denoise, model.schedule, sampler, x, torch.zeros_like))  # type: ignore[arg-type]
    assert watch.seen == [] and len(frames) == 4 and all(f.x.is_inference() for f in frames[1:])


def test_guidance_is_one_call_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyTraining(Plan(compile=False, precision="fp32")).model.eval()
    sizes: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))  # type: ignore[union-attr]
    denoise = denoise_of(model, torch.zeros(3, dtype=torch.int64), ClassifierFree(scale=2.0))  # type: ignore[arg-type]
    list(run_sampler(denoise, model.schedule, DDIM(steps=4), torch.zeros(3, 1, 8, 8), torch.zeros_like))  # type: ignore[arg-type]
    assert sizes == [6] * 4


def test_frames_of_an_animation_stay_bytes_until_the_end(cli: Cli, tmp_path: Path, monkeypatch: Any) -> None:
    """The frames of a GIF are copied from the device once, not at every step."""
    from ddpm_cli.sampling import animation as pictures

    assert cli("train", "run_dir=run", "trainer.steps=1", "trainer.sample_every=0", "logger=none", *TINY).code == 0
    kept: list[Any] = []
    original = pictures.denoise_frames

    def spy(frames: Any, *args: Any, **options: Any) -> Any:
        kept.extend(frames)
        return original(frames, *args, **options)

    monkeypatch.setattr(pictures, "denoise_frames", spy)
    assert cli("gif", "ckpt=run", "n=2", "sampler.steps=6", "frames=4", "out=a").code == 0
    assert len(kept) == 4 and all(f.x.dtype == f.x0.dtype == torch.uint8 for f in kept)
    assert len({f.x.float().std().item() for f in kept}) == 4
