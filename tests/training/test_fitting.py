"""trainer.micro_batch_size=auto: the first step halves the parts until they fit, and is that of the whole batch."""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ddpm_cli.diffusion.target import V
from ddpm_cli.errors import OutOfMemoryError
from ddpm_cli.hardware import memory
from ddpm_cli.objectives.denoising import Denoising
from ddpm_cli.objectives.times import Importance
from ddpm_cli.training import auto
from ddpm_cli.training.fitting import advised
from ddpm_cli.training.plan import Plan

from ..conftest import TINY, Cli
from .tiny import TinyTraining

ALLOCATORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "linux": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    "windows": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    "posix": lambda: RuntimeError("posix_memalign failed:Cannot allocate memory (12)"),
    "onednn": lambda: RuntimeError("could not create a primitive"),
    "python": MemoryError,
}
RUN = ["trainer.save_every=1", "trainer.log_every=1", "logger=none", "trainer.sample_every=0", "trainer.eval_every=0"]
RUN += [*TINY, "trainer.batch_size=8", "trainer.micro_batch_size=auto", "trainer.precision=fp32"]


class Scarce(Denoising):
    """Memory for `most` images at a time. The network has run by then, so statistics have changed."""

    def __init__(self, most: int, error: Callable[[], Exception], **options: Any):
        super().__init__(V(), **options)
        object.__setattr__(self, "most", most)
        object.__setattr__(self, "error", error)

    def __call__(self, model: Any, batch: Any, rng: Any) -> Any:
        loss = super().__call__(model, batch, rng)
        if len(batch.x) > self.most:  # type: ignore[attr-defined]
            raise self.error()  # type: ignore[attr-defined]
        return loss


def training(objective: Denoising, **options: Any) -> TinyTraining:
    return TinyTraining(Plan(batch_size=8, compile=False, precision="fp32", **options), objective=objective)


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate finds that everything fits."""
    monkeypatch.setattr(auto, "fits_by_estimate", lambda *_: lambda part: True)


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_the_first_step_halves_the_parts_until_they_fit(
    allocator: str, plenty: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ddpm_cli")
    whole = training(Denoising(V())).steps(3)
    scarce = training(Scarce(2, ALLOCATORS[allocator]), micro_batch_size="auto")
    assert scarce.steps(3) == pytest.approx(whole, rel=1e-4)
    assert scarce.state.chosen["micro_batch_size"] == 2
    lines = [m for m in caplog.messages if "micro_batch_size" in m]
    assert lines == ["trainer.micro_batch_size: parts of 8 do not fit into memory; using parts of 2"]
    parts = training(Denoising(V()), micro_batch_size=2)
    parts.steps(3)
    for one, other in zip(scarce.state.parameters, parts.state.parameters, strict=True):
        assert torch.equal(one, other)


def test_a_failed_try_leaves_no_trace_in_statistics(plenty: None) -> None:
    """Those of the losses, which decide the times of later steps."""
    scarce = training(Scarce(4, MemoryError, times=Importance(bins=4)), micro_batch_size="auto")
    parts = training(Denoising(V(), times=Importance(bins=4)), micro_batch_size=4)
    assert scarce.steps(4) == parts.steps(4)
    one, other = scarce.state.times, parts.state.times
    assert one is not None and other is not None
    assert all(map(torch.equal, one.buffers(), other.buffers()))


@pytest.mark.parametrize("options", [{"micro_batch_size": 8}, {}], ids=["given", "none"])
def test_a_size_that_was_chosen_stays(options: dict[str, Any], plenty: None) -> None:
    with pytest.raises(MemoryError):
        training(Scarce(2, MemoryError), **options).steps(1)


def test_a_single_image_that_does_not_fit_and_later_steps_are_errors(plenty: None) -> None:
    with pytest.raises(MemoryError):
        training(Scarce(0, MemoryError), micro_batch_size="auto").steps(1)
    later = training(Scarce(8, MemoryError), micro_batch_size="auto")
    later.steps(1)
    object.__setattr__(later.objective, "most", 4)
    later.steps(1)  # with the optimizer's moments, which the first step made
    assert later.state.chosen["micro_batch_size"] == 4
    object.__setattr__(later.objective, "most", 2)
    with pytest.raises(MemoryError):
        later.steps(1)
    assert later.state.chosen["micro_batch_size"] == 4


def test_other_errors_are_not_about_memory(plenty: None) -> None:
    scarce = training(Scarce(2, lambda: RuntimeError("shapes differ")), micro_batch_size="auto")
    with pytest.raises(RuntimeError, match="shapes differ"):
        scarce.steps(1)


def test_the_message_says_what_to_lower() -> None:
    made = training(Denoising(V()), micro_batch_size=4)
    made.state.step = 7
    with pytest.raises(OutOfMemoryError) as caught, advised(made.state, made.plan):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    message = str(caught.value)
    assert message.startswith("memory: not enough at step 7 (CUDA out of memory.); run the same command again with ")
    assert "trainer.micro_batch_size=2 (now 4), trainer.gradient_checkpointing=true" in message
    with pytest.raises(ValueError, match="no"), advised(made.state, made.plan):
        raise ValueError("no")


def scarce_conv(most: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    original = nn.Conv2d.forward

    def forward(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and len(x) > most():
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return original(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)


def test_the_size_is_saved_and_a_resumed_run_is_bit_for_bit_the_same(
    cli: Cli, tmp_path: Path, plenty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = [2]
    scarce_conv(lambda: most[0], monkeypatch)
    result = cli("train", "run_dir=whole", "trainer.steps=4", *RUN)
    assert result.code == 0 and "using parts of 2" in result.err
    assert cli("train", "run_dir=parts", "trainer.steps=2", *RUN).code == 0
    most[0] = 8  # another machine, or nothing else runs any more: it starts from the size that was found
    again = cli("train", "run_dir=parts", "trainer.steps=4", *RUN)
    assert again.code == 0 and "using parts" not in again.err
    name = "checkpoints/step_00000004"
    assert (tmp_path / f"whole/{name}.safetensors").read_bytes() == (
        tmp_path / f"parts/{name}.safetensors"
    ).read_bytes()
    assert json.loads((tmp_path / f"parts/{name}.json").read_text())["chosen"]["micro_batch_size"] == 2


def test_out_of_memory_later_is_exit_7_with_what_to_lower(
    cli: Cli, tmp_path: Path, plenty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def most() -> int:
        calls.append(1)
        return 8 if len(calls) < 100 else 0

    scarce_conv(most, monkeypatch)
    result = cli("train", "run_dir=run", "trainer.steps=50", *RUN)
    assert result.code == 7 and result.err.count("ddpm: error:") == 1
    assert re.search(r"memory: not enough at step \d+ .*trainer.micro_batch_size=4 \(now 8\)", result.err)
    found = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))
    assert found and all(bool(t.isfinite().all()) for t in load_file(found[-1]).values())


LIMITED = """
import resource, sys
from ddpm_cli.training import auto
auto.fits_by_estimate = lambda *_: lambda part: True
import torch, ddpm_cli.training.session, ddpm_cli.runs.loggers, torch._dynamo
torch.set_num_threads(1)
torch.backends.mkldnn.enabled = False  # oneDNN calls a null pointer where there is no memory for a kernel's code
from ddpm_cli.training import loop
update, before = loop.update, []
def limited(*arguments):
    if not before:
        before.append(1)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
    return update(*arguments)
loop.update = limited
from ddpm_cli.cli import main
sys.argv = ["ddpm", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
def test_a_limit_of_the_system_is_found_by_trying(tmp_path: Path) -> None:
    """A batch that needs about 600 MiB, with 250 MiB more of address space than before the first step."""
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY and memory.host_memory()
    arguments = ["train", "run_dir=run", "trainer.steps=2", "trainer.batch_size=512", "trainer.micro_batch_size=auto",
                 "model=unet_tiny", "model.channels=32", "dataset=digits", "logger=none", "trainer.sample_every=0",
                 "trainer.eval_every=0", "trainer.precision=fp32", "trainer.device=cpu"]  # fmt: skip
    code = LIMITED.replace("LIMIT)", f"{250 * 2**20})").replace("+ LIMIT", f"+ {250 * 2**20}")
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"parts of 512 do not fit into memory; using parts of (256|128|64|32)\n", done.stderr), done.stderr
