"""A user's folder conf/ with a file of ours that was changed: bytes, lines, indents, types."""

import re
from random import Random

from .lines import CONF, NETWORK, TINY, groups
from .server import Case, text_of

VALUES = ["null", "true", "[]", "{}", "[1, 2]", "{a: 1}", "-1", "0", "1e3", "1.5", ".nan", ".inf", "x", "''", "???"]
VALUES += [
    "${nothing}",
    "${seed}",
    "&a x",
    "*a",
    "!!python/object:os.x {}",
    "!!int x",
    "2026-01-01",
    "0o17",
    "1:30",
    "|",
    ">",
]
VALUES += [
    "builtins.dict",
    "collections.OrderedDict",
    "math.sqrt",
    "ddpm_cli.nothing.X",
    "torch.optim.Adam",
    "no",
    "@",
    "%",
]
JUNK = [
    "\t",
    "- x",
    "a: b: c",
    "---",
    "...",
    "<<: *a",
    "? a",
    "defaults: [x]",
    "defaults:",
    "  - _self_",
    "# @package _group_",
]
JUNK += [
    "_target_: builtins.dict",
    "x: 1",
    ": ",
    "{",
    "]",
    "'",
    '"',
    "\ufeff",
    "%YAML 9",
    "_partial_: maybe",
    "é: ü",
    "1: 2",
]


def generate(rng: Random) -> Case:
    group = rng.choices(["", *sorted(groups())], [3] + [1] * len(groups()))[0]
    command = "train" if group != "what" else "bench"
    path = CONF / "train.yaml" if not group else CONF / group / f"{rng.choice(groups()[group])}.yaml"
    text = path.read_text(encoding="utf-8")
    for _ in range(rng.choices((1, 2, 4), (6, 3, 1))[0]):
        text = _changed(rng, text)
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.25:
        raw = _flipped(rng, raw)
    name = path.stem if rng.random() < 0.5 or not group else "mine"
    file = f"conf/{group}/{name}.yaml" if group else "conf/train.yaml"
    files = {file: _kept(raw)}
    chosen = [f"{group}={name}"] if group else []
    if rng.random() < 0.1:
        files[f"conf/{rng.choice(sorted(groups()))}/{rng.choice(['none', 'x', '.x', 'a b'])}.yaml"] = "x: ["
    tiny = [*TINY[command], *(NETWORK["unet_tiny"] if group != "model" and command == "train" else [])]
    ends = rng.choices(([], ["--cfg=job"], ["--help"], ["--info=defaults"]), (80, 14, 3, 3))[0]
    return Case((command, *(a for a in tiny if a.partition("=")[0] != group), *chosen, *ends), files)


def _kept(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
        return text_of(raw) if text.startswith("base64:") else text
    except UnicodeDecodeError:
        return text_of(raw)


def _changed(rng: Random, text: str) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(["drop", "double", "indent", "value", "value", "value", "key", "junk", "swap", "cut", "comment"])
    if kind == "drop":
        del lines[at]
    elif kind == "double":
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif kind == "indent":
        lines[at] = rng.choice([" ", "  ", "    ", "\t"]) + lines[at] if rng.random() < 0.5 else lines[at].lstrip()
    elif kind == "value":
        lines[at] = re.sub(r":\s.*|- .*", lambda m: m[0][:2] + rng.choice(VALUES), lines[at], count=1)
    elif kind == "key":
        lines[at] = re.sub(
            r"[\w/]+", lambda m: rng.choice([m[0] + "x", "x", "1", "null", "", "a.b", "_x_"]), lines[at], count=1
        )
    elif kind == "junk":
        lines.insert(at, rng.choice(["", "  "]) + rng.choice(JUNK))
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "cut":
        lines = lines[:at]
    else:
        lines[at] = lines[at].lstrip("# ")
    return "\n".join(lines)


def _flipped(rng: Random, raw: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(max(len(raw), 1))
        raw = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)] if raw else [0]) + raw[at + 1 :]
    return raw
