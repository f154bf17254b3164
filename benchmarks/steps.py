"""What the trainer adds to a step, and what compiling takes from it.

    python benchmarks/steps.py overhead                                    # beside a bare loop of the same operations
    python benchmarks/steps.py compile experiment=fashion_mnist_small      # a step and a sampling call, and the cost

Pictures are random and in memory; the rest is what `ddpm train` composes from the overrides. The contenders take turns,
a window each, and ratios are of medians over the windows. Where the machine does other things as well, --cpu counts the
processor's seconds on one thread instead of the clock's.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from ddpm_cli import console
from ddpm_cli.build import build
from ddpm_cli.commands.assemble import network, wrapper_of
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.data.images import Images
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.training.compiling import Compiled
from ddpm_cli.training.looks import Looks
from ddpm_cli.training.loop import train, update
from ddpm_cli.training.run import Run
from ddpm_cli.training.runtime import choose
from ddpm_cli.training.setup import prepare

Clock = Callable[[], float]


class Made:
    """What trains, as `ddpm train` composes it from `overrides`."""

    def __init__(self, overrides: list[str]):
        composed = compose_command("train", [*overrides, "trainer.compile=false", "run_dir=x"])
        values = plain(OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"]))
        self.plan, self.objective = build(values["trainer"], "trainer"), build(values["objective"], "objective")
        data = values["dataset"]
        pixels = torch.randint(0, 256, (2000, data["channels"], data["size"], data["size"]), dtype=torch.uint8)
        self.images = Images(pixels, torch.randint(0, 10, (2000,)), tuple("0123456789"))
        runtime = choose(self.plan.device, self.plan.precision)
        module, adam = network(values, self.images), build(values["optimizer"], "optimizer")
        self.state = prepare(module, adam, self.plan, runtime, None, self.objective)
        self.model = wrapper_of(values, runtime, self.objective)(self.state.module)
        assert isinstance(self.model, Denoiser)
        self.device = runtime.device
        self.model.train()


def bare(made: Made, steps: int) -> None:
    """The loop that one would write by hand, with the same operations on tensors."""
    model: Any = made.model
    weights, averages = made.state.parameters, list(made.state.ema.module.parameters()) if made.state.ema else []
    size, order, hidden = made.plan.batch_size, torch.randperm(len(made.images)), made.objective.label_dropout
    for i in range(steps):
        rows = order[(torch.arange(size) + i * size) % len(order)]
        x0 = made.images.pixels[rows].to(made.device).float().div_(127.5).sub_(1)
        y = made.images.labels[rows].to(made.device)
        t = model.schedule.time(torch.rand(size, device=made.device))
        alpha, sigma = (v.view(-1, 1, 1, 1) for v in model.schedule(t))
        eps = torch.randn_like(x0)
        x_t = alpha * x0 + sigma * eps
        y = torch.where(torch.rand(size, device=made.device) < hidden, -1, y)
        with torch.autocast(made.device.type, model.autocast, enabled=model.autocast is not None):
            out = model.backbone(x_t, model.schedule.conditioning(t), y)
        gain = model.target.gain(alpha, sigma)
        weight = made.objective.weighting(alpha, sigma, gain)
        loss = (weight * (out.float() - model.target.of(x0, eps, alpha, sigma)).square()).mean()
        loss.backward()
        if made.plan.grad_clip is not None:
            nn.utils.clip_grad_norm_(weights, made.plan.grad_clip)
        made.state.optimizer.step()
        made.state.optimizer.zero_grad()
        if averages:
            torch._foreach_lerp_(averages, weights, 0.001)
    loss.item()


def trained(made: Made, steps: int) -> None:
    """The same number of steps of `ddpm train`, which logs and reports as ever and does not save."""
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder), {}, console.TrainingView()) as run:
        never: dict[str, Any] = {"save_every": 0, "save_seconds": None, "sample_every": 0, "eval_every": 0}
        plan = replace(made.plan, steps=made.state.step + steps, epochs=None, max_seconds=None, best_by=None, **never)
        run.save = lambda *_: None  # type: ignore[method-assign, assignment, return-value]
        train(made.objective, made.model, made.state, made.images, plan, run, Looks(), seed=0)


def versus(names: tuple[str, str], one: Callable[[], None], two: Callable[[], None], windows: int, clock: Clock) -> str:
    """One line: medians of both and their ratio with its spread."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(windows):
        for run, kept in zip((one, two), times, strict=True):
            since = clock()
            run()
            kept.append(clock() - since)
    a, b = map(statistics.median, times)
    ratios = sorted(y / x for x, y in zip(*times, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    return f"{names[0]} {a:.4g} s, {names[1]} {b:.4g} s, ratio {b / a:.3f} (middle half {low:.3f} to {high:.3f})"


def overhead(made: Made, other: Made, steps: int, windows: int, clock: Clock) -> None:
    """Each has a network of its own, as the optimizer's memory is of one."""
    bare(other, 2)
    trained(made, 2)
    names = (f"{steps} bare steps", "ddpm train")
    print(versus(names, lambda: bare(other, steps), lambda: trained(made, steps), windows, clock))


def compiling(made: Made, windows: int, clock: Clock) -> None:
    """A training step, and a sampling call of as many images."""
    batch = next(made.images.batches(made.plan.batch_size, 0, 0, made.device))
    tensors, module, model = len(made.state.parameters), made.state.module, made.model

    def step() -> None:
        update(made.objective, model, made.state, batch, made.plan, 0)

    def call() -> None:
        with torch.inference_mode():
            model(batch.x, torch.tensor(0.5, dtype=torch.float64), batch.y)

    for name, run, training in (("a training step", step, True), ("a sampling call", call, False)):
        module._compiled_call_impl = None
        model.train(training)
        run()
        fast = Compiled(module, "compiled", training)
        since = clock(), time.perf_counter()
        module._compiled_call_impl = fast
        run()
        spent, waited = clock() - since[0], time.perf_counter() - since[1]
        print(f"compiling {name}: {spent:.1f} s ({waited:.1f} by the clock), {spent / tensors:.2f} a parameter tensor")

        def by(implementation: Any, run: Callable[[], None] = run) -> Callable[[], None]:
            def act() -> None:
                module._compiled_call_impl = implementation
                run()

            return act

        print(f"{name}: " + versus(("plain", "compiled"), by(None), by(fast), windows, clock))


def processor() -> float:
    """Seconds of this process and of the compiler's."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "compile"])
    parser.add_argument("overrides", nargs="*", help="of ddpm train")
    parser.add_argument("--steps", type=int, default=50, help="in a window of overhead")
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, on one thread")
    asked = parser.parse_intermixed_args()
    if asked.cpu:
        torch.set_num_threads(1)
    clock = processor if asked.cpu else time.perf_counter
    made = Made(asked.overrides)
    if asked.what == "overhead":
        overhead(made, Made(asked.overrides), asked.steps, asked.windows, clock)
    else:
        compiling(made, asked.windows, clock)


if __name__ == "__main__":
    main()
