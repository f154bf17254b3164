"""Command lines at random: the groups, keys and types of conf/, in Hydra's grammar, right and wrong."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from .server import ROOT, Case

CONF = ROOT / "conf"
COMMANDS = {"train": 60, "sample": 14, "eval": 8, "gif": 8, "table": 5, "runs": 3, "bench": 5}
"""Command -> how often it is chosen."""
TINY = {
    "train": ["trainer.batch_size=4", "trainer.samples=1", "trainer.eval_images=4", "sampler.steps=2", "logger=none"],
    "sample": ["ckpt=digits", "n=2", "sampler.steps=2", "batch_size=2"],
    "eval": ["ckpt=digits", "n=4", "bpd.ode_steps=0", "bpd.terms=2", "resamples=2", "sampler.steps=2"],
    "gif": ["ckpt=digits", "n=1", "frames=3", "sampler.steps=2"],
    "table": ["of=[digits,resnet]"],
    "runs": ["of=[digits,resnet]"],
    "bench": ["what=samplers", "n=20", "steps=[5]", "samplers=[ddim]"],
}
"""What makes a valid line short. The lines add to it, or contradict it."""
NETWORK = {"unet_tiny": ["model.channels=8"], "vae": ["model.hidden=8"], "gmm": ["model.components=2"]}
RUNS = ("digits", "gmm", "resnet", "unet_classifier", "vae_conv")
NUMBERS = ["-1", "0", "1", "2", "3", "4", "0.5", "1.5", "-0.0", "1e-3", "1e999", "nan", "inf", "-inf", "1_000", "0x10"]
LARGE = ["9223372036854775808", "100000000000000000000000000", "4611686018427387904", "1e30", "1000000000"]
WORDS = ["true", "false", "null", "none", "auto", "epoch", "yes", "''", '""', "many", "cpu", "cuda", "fp32", "bf16"]
SHAPES = [
    "[]",
    "[1,2]",
    "[[1],2]",
    "{}",
    "{a:1}",
    "[a,b]",
    "[-1,4]",
    "[null]",
    "{_target_:builtins.dict}",
    "[1,",
    "{a:",
]
PATHS = [
    "here",
    "a/b",
    "a b",
    "~/x",
    "../work/y",
    "/proc/nope",
    "digits",
    "x.gif",
    "x.mp4",
    "é",
    "2026_09_25",
    ".",
    "a=b",
]
TEXTS = [
    "${nothing}",
    "${seed}",
    "${oc.env:HOME}",
    "${oc.env:NOPE}",
    "${",
    "$",
    "${a.b:",
    "???",
    "\\",
    "a,b",
    "a;b",
    "(x)",
]
SWEEPS = ["1,2", "choice(1,2)", "range(1,3)", "range(1,3,0)", "interval(0,1)", "glob(*)", "shuffle(1,2)", "sort(b,a)"]
SWEEPS += ["choice()", "range()", "range(a)", "tag(x,1,2)", "int(1.5)", "float(x)", "str(1)", "json_str({})", "cast(1)"]
GARBAGE = ["=", "==", "'", '"', "[", "]", "{", "}", "@", "~", "+", "++", "-", "--", ":", ",", ";", "#", "%", "\\", " "]
GARBAGE += [
    "\udcff",
    "\t",
    "\n",
    "\x00a"[1:],
    "\x1b[31m",
    "[red]x",
    "%s",
    "{0}",
    "é",
    "漢",
    "🙂",
    "\u202e",
    "\ufeff",
    "0",
    "a",
]
FLAGS = ["--cfg", "--info", "--help", "-m", "-p", "-x", "--", "-", "--resolve", "--cfg=job", "--cfg=all", "--cfg=nope"]
FLAGS += ["--info=nope", "--info=defaults", "--info=searchpath", "--config-dir", "--config-dir=nowhere", "--package"]
FLAGS += [
    "--config-name=sample",
    "--config-name=nope",
    "--config-path=x",
    "--multirun",
    "--run",
    "-c",
    "-h",
    "--version",
]
HYDRA = [
    "hydra.verbose=true",
    "hydra.job.name=x",
    "hydra.run.dir=here",
    "hydra/job_logging=none",
    "hydra=nope",
    "hydra.x=1",
]
HYDRA += ["hydra/launcher=nope", "hydra/sweeper=basic", "hydra.sweep.subdir=x", "hydra/output=x", "hydra.mode=MULTIRUN"]


def generate(rng: Random) -> Case:
    command = rng.choices(list(COMMANDS), list(COMMANDS.values()))[0]
    arguments = list(TINY[command])
    if command == "train":
        arguments += NETWORK["unet_tiny"] if rng.random() < 0.8 else _network(rng)
    for _ in range(rng.choices((0, 1, 2, 3, 5), (1, 10, 5, 3, 1))[0]):
        arguments.insert(rng.randint(len(arguments) // 2, len(arguments)), _argument(rng, command))
    if rng.random() < 0.1:
        arguments.append(rng.choice(("-m", "--cfg=job")))
    if rng.random() < 0.04:
        arguments = [_mutated(rng, a) if rng.random() < 0.3 else a for a in arguments]
    if rng.random() < 0.02:
        command = _mutated(rng, command)
    clean = tuple(a.replace("\0", "") for a in (command, *arguments) if not a.startswith("what=startup"))
    return Case(clean, runs=RUNS if command != "train" or rng.random() < 0.1 else ())


def _network(rng: Random) -> list[str]:
    name = rng.choice(sorted(NETWORK))
    return [f"model={name}", *NETWORK[name]]


def _argument(rng: Random, command: str) -> str:
    kind = rng.choices(("key", "group", "flag", "hydra", "garbage", "add", "delete"), (60, 14, 4, 3, 6, 8, 5))[0]
    if kind == "key":
        key, default = rng.choice(keys(command))
        return f"{key}={_value(rng, default)}"
    if kind == "group":
        group = rng.choice(sorted(groups()))
        package = rng.choice(["@x", "@_global_", f"@model.{group}"]) if rng.random() < 0.05 else ""
        return f"{group}{package}={_choice(rng, group)}"
    if kind == "flag":
        return rng.choice(FLAGS)
    if kind == "hydra":
        return rng.choice(HYDRA)
    if kind == "garbage":
        return "".join(rng.choice(GARBAGE) for _ in range(rng.randint(1, 8)))
    key = rng.choice(keys(command))[0] if rng.random() < 0.6 else rng.choice(["x", "model.x", "a.b.c", "trainer"])
    if kind == "delete":
        return rng.choice([f"~{key}", f"~{rng.choice(sorted(groups()))}", f"~{key}=1", f"~{key}@x"])
    return f"{rng.choice(['+', '++', '+++'])}{key}={_value(rng, None)}"


def _choice(rng: Random, group: str) -> str:
    if rng.random() < 0.7:
        return rng.choice(groups()[group])
    return rng.choice(["nope", "null", "[]", "[a,b]", "", "../x", "none", "None", "1", *groups()[group]]) + rng.choice(
        ["", "", "x", ",none", ".yaml", "/"]
    )


def _value(rng: Random, default: Any) -> str:
    kind = rng.random()
    if kind < 0.35:
        return _like(rng, default)
    pool = rng.choice([NUMBERS, NUMBERS, LARGE, WORDS, WORDS, SHAPES, PATHS, TEXTS, SWEEPS])
    value = rng.choice(pool)
    if kind > 0.92:
        value = _mutated(rng, value)
    return (
        rng.choice([f"'{value}'", f'"{value}"', f"[{value}]", f"[{value},{value}]"]) if rng.random() < 0.12 else value
    )


def _like(rng: Random, default: Any) -> str:
    """A value of the type of the default."""
    if isinstance(default, bool):
        return rng.choice(["true", "false"])
    if isinstance(default, int):
        return str(rng.choice([1, 2, 3, 4, 8, 10, default, default + 1, max(default - 1, 0)]))
    if isinstance(default, float):
        return str(rng.choice([0.0, 0.1, 0.5, 0.999, 1.0, 2.0, default, default * 2]))
    if isinstance(default, list):
        return "[" + ",".join(_like(rng, item) for item in default[: rng.randint(0, 4)]) + "]"
    return rng.choice(["null", "auto", "1", "0.5", "cpu", str(default)])


def _mutated(rng: Random, text: str) -> str:
    at = rng.randint(0, len(text))
    new = rng.choice(GARBAGE)
    return rng.choice([text[:at] + new + text[at:], text[:at] + text[at + 1 :], text[:at] + text[:at][-3:] + text[at:]])


@cache
def groups() -> Mapping[str, list[str]]:
    folders = (path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
    return {path.name: sorted(p.stem for p in path.glob("*.yaml")) for path in folders}


@cache
def keys(command: str) -> list[tuple[str, Any]]:
    """(dotted key, default) of a command and of the groups that it may have."""
    found = dict(_leaves(_read(CONF / f"{command}.yaml"), ""))
    wanted = {"train": set(groups()) - {"what", "experiment"}, "table": set(), "bench": {"sampler", "schedule"}}
    for group in wanted.get(command, {"sampler", "guidance"}):
        for path in sorted((CONF / group).glob("*.yaml")):
            found.update(_leaves(_read(path), f"{group}."))
    if command == "bench":
        for path in sorted((CONF / "what").glob("*.yaml")):
            found.update(_leaves(_read(path), ""))
    return sorted(found.items(), key=lambda item: item[0])


def _read(path: Path) -> dict[str, Any]:
    return {k: v for k, v in yaml.safe_load(path.read_text(encoding="utf-8")).items() if k != "defaults"}


def _leaves(node: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, value in node.items():
        if isinstance(value, dict):
            leaves += [*_leaves(value, f"{prefix}{key}."), (f"{prefix}{key}", value)]
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves
