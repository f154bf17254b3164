"""What compiling costs, and how much it shortens a training step and a sampling call.

    python benchmarks/compiling.py experiment=fashion_mnist_small      # overrides of ddpm train

The constants of ddpm_cli/hardware/compiling.py are from here. Pictures are random and in memory; the rest is what
`ddpm train` composes from the overrides. Plain and compiled take turns, and ratios are of medians. Where the machine
is busy with other programs, --cpu counts processor seconds on one thread instead of wall-clock seconds.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from composed import Composed, random_images

from ddpm_cli.hardware.compiling import Compiled

Clock = Callable[[], float]


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


def compiling(overrides: list[str], windows: int, clock: Clock) -> None:
    """A training step, and a sampling call of as many images."""
    data = Composed(overrides).config["dataset"]
    images = random_images(2000, data["channels"], data["size"], classes=10)
    composed = Composed([*overrides, "trainer.compile=false"], images)
    training = composed.training()
    batch = next(images.batches(composed.plan.batch_size, 0, 0, composed.device))
    tensors, module, model = len(training.state.parameters), training.state.module, training.model

    def call() -> None:
        with torch.inference_mode():
            model(batch.x, torch.tensor(0.5, dtype=torch.float64), batch.y)

    def step() -> None:
        training.step(batch)

    for name, run, trains in (("a training step", step, True), ("a sampling call", call, False)):
        module._compiled_call_impl = None
        model.train(trains)
        run()
        fast = Compiled(module, "compiled", trains)
        since = clock(), time.perf_counter()
        module._compiled_call_impl = fast
        run()
        spent, waited = clock() - since[0], time.perf_counter() - since[1]
        print(
            f"compiling {name}: {spent:.1f} s ({waited:.1f} s wall-clock), {spent / tensors:.2f} s per parameter tensor"
        )

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
    options = parser.parse_intermixed_args()
    if options.cpu:
        torch.set_num_threads(1)
    compiling(options.overrides, options.windows, processor if options.cpu else time.perf_counter)


if __name__ == "__main__":
    main()
