"""What compiling costs, and what it takes off a training step and a sampling call.

    python benchmarks/compiling.py experiment=fashion_mnist_small      # overrides of ddpm train

The constants of ddpm_cli/hardware/compiling.py are from here. Pictures are random and in memory; the rest is what
`ddpm train` composes from the overrides. Plain and compiled take turns, and ratios are of medians. Where the machine
does other things as well, --cpu counts the processor's seconds on one thread instead of the clock's.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import OmegaConf

from ddpm_cli.build import build
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.data.images import Images
from ddpm_cli.diffusion.denoiser import Denoiser
from ddpm_cli.hardware.compiling import Compiled
from ddpm_cli.hardware.runtime import choose_runtime
from ddpm_cli.runs.assemble import network, wrapper_of
from ddpm_cli.training.loop import update
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
    parser.add_argument("overrides", nargs="*", help="of ddpm train")
    parser.add_argument("--windows", type=int, default=7, help="turns of each")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor, on one thread")
    asked = parser.parse_intermixed_args()
    if asked.cpu:
        torch.set_num_threads(1)
    compiling(Made(asked.overrides), asked.windows, processor if asked.cpu else time.perf_counter)


if __name__ == "__main__":
    main()
