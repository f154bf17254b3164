"""Runs of every family with damaged files, and with files that were forged so that their digests fit."""

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

from .lines import RUNS
from .server import GOLDEN, Case

VALUES: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    3,
    10**9,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e300,
    "",
    "x",
    "null",
    "../x",
    "/proc/x",
]
VALUES += [
    [],
    [1],
    [1, 2, 3],
    [[]],
    {},
    {"a": 1},
    {"_target_": "builtins.dict"},
    "\x1b[31mx",
    "[red]x",
    "é",
    "(deleted)",
]
VALUES += ["(deleted)", float("nan"), float("inf"), "torch.optim.SGD", "ddpm_cli.models.unet.UNet", "x" * 5000]
NAMES = ("checkpoints/step_00000004.json", "checkpoints/step_00000004.safetensors", "config.json", "metrics.jsonl")
USES = {
    "sample": ["n=1", "sampler.steps=2", "batch_size=1"],
    "gif": ["n=1", "frames=2", "sampler.steps=2"],
    "eval": ["n=2", "bpd.ode_steps=0", "bpd.terms=1", "resamples=1", "sampler.steps=2", "batch_size=2"],
}


def generate(rng: Random) -> Case:
    run = rng.choice(RUNS)
    edits = [e for _ in range(rng.choices((1, 2, 3), (6, 2, 1))[0]) for e in _edits(rng, run)]
    if rng.random() < 0.4:
        name = rng.choice(sorted(USES))
        end = rng.choice(
            ["", "", "/checkpoints", "/checkpoints/step_00000004.json", "/checkpoints/step_00000004.safetensors"]
        )
        return Case((name, f"ckpt={run}{end}", *USES[name]), runs=(run,), edits=tuple(edits))
    if rng.random() < 0.15:
        return Case(("table", f"of=[{run}]"), runs=(run,), edits=tuple(edits))
    key = rng.choices(("run_dir={}", "run_dir=new resume={}", "run_dir=new finetune={}"), (6, 2, 2))[0].format(run)
    return Case(("train", *_resumed(run), *key.split()), runs=(run,), edits=tuple(edits))


@cache
def _resumed(run: str) -> tuple[str, ...]:
    """What trains the golden run further, by one step."""
    from ..golden import make

    settings = [*make.QUIET, *make.TRAIN[run]]
    tiny = ["trainer.samples=1", "trainer.eval_images=2", "trainer.eval_every=0"]
    return (*settings, *tiny, "trainer.steps=5")


def _edits(rng: Random, run: str) -> Iterator[tuple[Any, ...]]:
    name = f"{run}/{rng.choices(NAMES, (4, 4, 1, 1))[0]}"
    older = name.replace("4", "3")
    kind = rng.choices(("bytes", "set", "sealed", "file"), (4, 5, 4, 2))[0]
    if kind == "bytes":
        yield _bytes(rng, name)
    elif kind == "set":
        target = f"{run}/{NAMES[0]}" if rng.random() < 0.85 else f"{run}/config.json"
        places = (
            list(_places(run)) if target.endswith("4.json") else [p[1:] for p in _places(run) if p[:1] == ("config",)]
        )
        yield ("set", target, list(rng.choice([p for p in places if p])), rng.choice(VALUES))
    elif kind == "sealed":
        tensors = f"{run}/{NAMES[1]}"
        yield _bytes(rng, tensors, head=rng.random() < 0.7)
        yield ("seal", f"{run}/{NAMES[0]}")
    else:
        what = rng.choice(("remove", "swap", "copy", "folder", "write"))
        others = [f"{run}/{n}" for n in NAMES] + [older]
        yield {
            "remove": ("remove", name),
            "swap": ("swap", name, rng.choice(others)),
            "copy": ("copy", name, rng.choice([*others, f"{run}/checkpoints/step_00000009.json"])),
            "folder": ("folder", rng.choice([name, f"{run}/checkpoints/step_00000009.json", f"{run}/samples/x"])),
            "write": (
                "write",
                name,
                rng.choice(["", "{}", "[]", "null", "1", "[" * 2000, "\x00", '{"step": 1}\n', "é"]),
            ),
        }[what]


def _bytes(rng: Random, name: str, head: bool = False) -> tuple[Any, ...]:
    at = rng.randrange(4000 if head else 2**31)
    kind = rng.choice(("flip", "byte", "cut", "zero", "drop", "double", "insert"))
    more: tuple[int, ...] = {
        "flip": (rng.randrange(8),),
        "byte": (rng.choice((0, 255, 34, 123, 44, 45, 57)),),
        "zero": (rng.choice((1, 8, 4096)),),
        "drop": (rng.choice((1, 8, 512)),),
        "double": (rng.choice((1, 8, 512)),),
        "insert": tuple(rng.randrange(256) for _ in range(rng.choice((1, 8)))),
    }.get(kind, ())
    return (kind, name, rng.randrange(16) if head and rng.random() < 0.3 else at, *more)


@cache
def _places(run: str) -> tuple[tuple[Any, ...], ...]:
    """The place of every value in the manifest of a run."""
    import json

    content = json.loads(next((GOLDEN / run / "run/checkpoints").glob("*.json")).read_text(encoding="utf-8"))

    def walk(node: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield place
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            yield from walk(value, (*place, key))

    return tuple(p for p in walk(content, ()) if p and p[0] not in ("format", "digest"))
