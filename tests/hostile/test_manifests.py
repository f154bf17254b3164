"""Values in a manifest are data: no number is too large, no text is read as anything else, none hangs."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli.runs import manifest

from ..conftest import Cli
from .conftest import JUDGED, OPENINGS
from .strangers import Stranger, check_answer, raw_manifest, secret_in

SECRET = "s3cret-7f1e9b"
HUGE = 10**9

NUMBERS: dict[str, list[Any]] = {
    "config.model.channels": [HUGE, 10**30, -8, 0, 1e9, math.nan, math.inf, True, 8.5],
    "config.model.multipliers": [[HUGE], [1] * 100_000, [], [0], [-1], [10**4] * 4, "12", [[1]], [math.nan], {"0": 1}],
    "config.model.blocks": [HUGE, 10**6, -1, 0],
    "config.model.image_size": [HUGE, 10**5, 0, -8, 7],
    "config.model.in_channels": [HUGE, 0, -1, 10**5],
    "config.model.num_classes": [HUGE, 10**6, 0, -1],
    "config.model.heads": [HUGE, 0, -1],
    "config.model.patch_size": [HUGE, 0, -1],
    "config.model.attention_resolutions": [[HUGE], list(range(10**5)), [0], [-1]],
    "config.model.dropout": [math.nan, -1, 2, 1e308],
    "config.schedule.steps": [HUGE, 10**6, 10**100, 0, -1, math.inf],
    "config.schedule.s": [math.nan, 1e308, -1, 10**400],
    "config.schedule.shift": [math.nan, 0, -1, math.inf],
    "config.schedule.max_beta": [2, -1, math.nan],
    "config.sampler.steps": [HUGE, 10**6, 0, -1, math.nan],
    "config.sampler.eta": [math.nan, math.inf, -1, 10**400],
    "config.objective.label_dropout": [math.nan, -1, 2, 10**400],
    "config.seed": [10**30, -1, math.nan, 2**63],
    "about.shape": [[HUGE, HUGE, HUGE], [1, 8, 10**5], [0, 8, 8], [-1, -8, 8], [], [1], [1, 8, 8, 8], [1.5, 8, 8], "188"],
    "about.class_names": [["x"] * 10**6, [1, None, []], {"a": 1}, "abc", [], None, 3],
    "about.range": [[math.nan, 1], [1, 0], [10**400, 10**401], "ab", [0]],
    "about.images": [HUGE, -1, "many", None],
    "step": [10**30, -1, 4.0, "4", True, None, 10**400],
    "seconds": [math.nan, math.inf, -1, 10**400],
    "size": [0, -1, 10**30, math.inf, "1"],
    "sha256": ["", "0" * 64, None, 1, "x" * 10**6],
}  # fmt: skip


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers(key: str, guarded: Cli, stranger: Stranger) -> None:
    original = stranger.content()
    for number, value in enumerate(NUMBERS[key]):
        stranger.change(lambda content: content.update(json.loads(json.dumps(original))))
        stranger.set(key, value)
        check_answer(guarded(*OPENINGS["finetune" if number % 4 == 3 else "sample"]))


WRONG: list[Any] = [
    None,
    True,
    -1,
    1.5,
    "",
    "text",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    {"_target_": None},
    {"_target_": []},
]
PLACES = [
    "config", "about", "best", "period", "chosen", "versions", "created", "config.model", "config.objective",
    "config.schedule", "config.sampler", "config.guidance", "config.trainer", "config.dataset", "config.optimizer",
    "config.seed", "config.trust", "config.run_dir", "config.model._target_", "config.objective.target",
    "config.objective.weighting", "config.model.multipliers", "config.dataset.root", "config.trainer.ema",
]  # fmt: skip


@pytest.mark.parametrize("key", PLACES)
def test_wrong_types(key: str, guarded: Cli, stranger: Stranger) -> None:
    original = stranger.content()
    for number, value in enumerate(WRONG):
        stranger.change(lambda content: content.update(json.loads(json.dumps(original))))
        stranger.set(key, value)
        opening = ("sample", "sample", "gif", "finetune")[(number + len(key)) % 4]
        check_answer(guarded(*OPENINGS[opening]))


@pytest.mark.parametrize("key", ["about", "about.class_names", "about.shape", "config.trainer", "config.objective",
                                 "config.model", "config.optimizer", "config.dataset", "config.optimizer.lr",
                                 "config.optimizer.params", "config.optimizer.momentum", "config.trainer.batch_size",
                                 "config.trainer.lr_milestones"])  # fmt: skip
def test_wrong_types_of_a_classifier(key: str, guarded: Cli, stranger: Stranger, judge: Stranger) -> None:
    original = judge.content()
    config = (judge.folder / "config.json").read_text()
    for number, value in enumerate([*WRONG, HUGE, 10**400, math.nan]):
        judge.change(lambda content: content.update(json.loads(json.dumps(original))))
        judge.set(key, value)
        (judge.folder / "config.json").write_text(config)
        if key.startswith("config."):
            judge.put_config(key.removeprefix("config."), value)
        check_answer(guarded(*JUDGED[("cas", "table", "finetune", "eval")[(number + len(key)) % 4]]))


SPECIAL: list[Callable[[dict[str, Any]], Any]] = [
    lambda c: c["config"]["model"].update(_args_=["touch", "ran"]),
    lambda c: c["config"]["model"].update(_convert_="all"),
    lambda c: c["config"]["model"].update(_recursive_=True),
    lambda c: c["config"]["model"].update(_partial_=True),
    lambda c: c["config"]["objective"].update(_partial_=True),
    lambda c: c["config"]["schedule"].update(_partial_=True),
    lambda c: c["config"]["sampler"].update(_partial_=True),
    lambda c: c["config"].update(guidance={"_target_": "ddpm_cli.diffusion.guidance.ClassifierFree", "_partial_": True}),
    lambda c: c["config"]["objective"]["target"].update(_partial_=True),
    lambda c: c["config"]["objective"]["times"].update(_partial_=True),
    lambda c: c["config"]["trainer"].update(_partial_=True),
    lambda c: c["config"]["model"].update(self="x"),
    lambda c: c["config"]["model"].update(cls="x", key="y", trust=["os"], node={}),
    lambda c: c["config"]["sampler"].update(given=1, target="os.system"),
    lambda c: c["config"]["model"].update({"": 1, "a.b": 2, "__class__": 3, "__init__": 4}),
    lambda c: c["config"]["model"].update(in_channels="???"),
    lambda c: c["config"].update(trust=["os", "subprocess", "builtins"], debug=True, resume=False),
    lambda c: c["config"].update(run_dir="/etc", out="/etc", hydra={"run": {"dir": "/etc"}}),
    lambda c: c.update(config={}),
    lambda c: c.update(about={}),
    lambda c: c.update(chosen={"compile": "os.system", "device": "cuda:99"}),
    lambda c: c.update(best={"loss": math.nan, "step": "../../etc"}),
    lambda c: c["config"]["model"].update(lr="${oc.env:HOSTILE_SECRET}"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(SPECIAL)))
@pytest.mark.parametrize("opening", ["sample", "finetune"])
def test_special_keys(opening: str, number: int, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    stranger.change(SPECIAL[number])
    check_answer(guarded(*OPENINGS[opening]))
    assert not (tmp_path / "ran").exists()


RESOLVED = [
    "${oc.env:HOSTILE_SECRET}", "${oc.decode:${oc.env:HOSTILE_SECRET}}", "${oc.create:${oc.env:HOSTILE_SECRET}}",
    "$HOSTILE_SECRET", "${HOSTILE_SECRET}", "%HOSTILE_SECRET%", "{HOSTILE_SECRET}", "{0.__class__}", "%(HOSTILE_SECRET)s",
    "`cat secret`", "$(cat secret)", "${ddpm.folder:/etc}", "~root/x", "{{ config }}", "${hydra:runtime.cwd}", "%s%s%n",
]  # fmt: skip


@pytest.mark.parametrize("text", RESOLVED)
def test_a_secret_stays_where_it_is(
    text: str, guarded: Cli, stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTILE_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)

    def change(content: dict[str, Any]) -> None:
        content["about"]["class_names"] = [f"{text}{i}" for i in range(10)]
        content["config"]["dataset"]["root"] = text
        content["config"]["run_dir"] = text
        content["created"] = text
        content["versions"] = {text: text}

    stranger.change(change)
    outputs = {}
    for opening in ("sample", "gif", "finetune"):
        result = guarded(*OPENINGS[opening][:2], *(a.replace("=o", f"={opening}") for a in OPENINGS[opening][2:]))
        check_answer(result, 0)
        outputs[opening] = result.out + result.err
    for key in ("config.model._target_", "config.sampler.spacing", "config.objective.target", "config.model.channels"):
        stranger.set(key, text)
        result = guarded(*OPENINGS["sample"])
        check_answer(result, 2, 4)
        outputs[key] = result.out + result.err
    assert not secret_in(tmp_path, SECRET, outputs)
    names = json.loads((tmp_path / "sample/sample.json").read_text())["classes"]
    assert names == [f"{text}0"]  # as it was written


NAMES = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x9b31m", "\x07\x08\x7f\r", "a\nb",
    "[bold red]x[/]", "[link=http://x]y[/link]", "[/]", "[", "\\[bold]", ":boom:", "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>", "&lt;", "\u202egnp.exe", "\u2028", "\ud800", "\x00", "a\tb", "x" * 10_000, "", " ",
    "../../../etc/passwd", "/etc/passwd", "C:\\x", "con", "|", "`id`", "$x^2$", "$\\frac{1}{$", "%", "{}", "\u0000\u200b",
]  # fmt: skip
FORBIDDEN = ("\x1b", "\x9b", "\x07", "\x08", "\x7f", "\x00", "\u202e", "\u2028")


@pytest.mark.parametrize("name", NAMES, ids=lambda text: ascii(text[:12]))
def test_names_of_classes_are_escaped(name: str, guarded: Cli, stranger: Stranger) -> None:
    stranger.set("about.class_names", [f"{name}{i}" for i in range(10)])
    for arguments in (
        OPENINGS["sample"], (*OPENINGS["sample"], "label=77"), OPENINGS["gif"], OPENINGS["eval"], OPENINGS["finetune"],
    ):  # fmt: skip
        result = guarded(*arguments)
        check_answer(result)
        assert not [c for c in FORBIDDEN if c in result.out + result.err], (result.out, result.err)
        assert result.code in (2, 3) or arguments != OPENINGS["sample"] or result.code == 0


@pytest.mark.parametrize("name", NAMES, ids=lambda text: ascii(text[:12]))
def test_names_of_a_classifier_are_escaped(name: str, guarded: Cli, stranger: Stranger, judge: Stranger) -> None:
    judge.set("about.class_names", [f"{name}{i}" for i in range(10)])
    for opening in ("sample", "eval", "cas"):
        result = guarded(*JUDGED[opening])
        check_answer(result)
        assert not [c for c in FORBIDDEN if c in result.out + result.err], (result.out, result.err)


@pytest.mark.parametrize("place", ["config.dataset.root", "config.model._target_", "config.sampler._target_", "created",
                                   "config.model.x", "config.objective.target._target_", "config.sampler.spacing",
                                   "config.guidance._target_", "config.trainer.precision", "config.dataset.name"])  # fmt: skip
def test_other_texts_are_escaped(place: str, guarded: Cli, stranger: Stranger) -> None:
    original = stranger.content()
    for name in ("\x1b[31mred", "\x9b31m", "a\nb\u2028c", "[/]", "\ud800", "\x00", "x" * 10**6):
        stranger.change(lambda content: content.update(json.loads(json.dumps(original))))
        stranger.set(place, name)
        for opening in ("sample", "eval"):
            result = guarded(*OPENINGS[opening])
            check_answer(result)
            assert not [c for c in FORBIDDEN if c in result.out + result.err], (result.out, result.err)


def broken(text: str) -> str:
    return '{"format": 2, "digest": "' + manifest.BLANK + '", ' + text + "}"


TEXTS = {
    "deep list": broken('"config": ' + "[" * 200_000 + "]" * 200_000),
    "deep object": broken('"config": ' + '{"a":' * 200_000 + "1" + "}" * 200_000),
    "deep but closed": '{"format": 2, "config": ' + "[" * 900 + "]" * 900 + "}",
    "long number": broken('"step": ' + "9" * 1_000_000),
    "long float": broken('"step": 0.' + "9" * 1_000_000),
    "exponent": broken('"step": 1e999999999'),
    "nan format": '{"format": NaN}',
    "newer": '{"format": 1e5, "step": 4}',
    "newer whole": '{"format": 99999, "step": "\\u001b[31m"}',
    "huge newer": '{"format": ' + "9" * 4000 + "}",
    "many keys": broken(",".join(f'"k{i}": {i}' for i in range(300_000))),
    "many texts": broken('"about": {"class_names": [' + ",".join(['"x"'] * 500_000) + "]}"),
    "surrogates": broken('"config": "\\ud800\\udfff\\ud800"'),
    "duplicate keys": broken('"step": 4, "step": 5, "config": {}, "config": {"model": 1}'),
    "two digests": broken(f'"digest": "{manifest.BLANK}"'),
    "empty digest": '{"format": 2, "digest": "", "step": 4}',
    "null": "null",
    "text": '"text"',
    "list": "[1, 2]",
    "nothing": "",
    "zeros": "\x00" * 10_000,
    "bom": "\ufeff{}",
    "pickle": "\x80\x04cos\nsystem\n(S'touch ran'\ntR.",
    "yaml": "!!python/object/apply:os.system ['touch ran']",
    "comment": '{"format": 2 /* x */}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_no_manifest(name: str, guarded: Cli, stranger: Stranger) -> None:
    raw_manifest(stranger.manifest, TEXTS[name])
    for opening in ("sample", "finetune"):
        check_answer(guarded(*OPENINGS[opening]), 4)


@pytest.mark.parametrize("raw", [b"\xff\xfe{\x00}\x00", b"\xff" * 100, b'{"a": "\xff"}', b"\x1f\x8b\x08" + b"\0" * 50])
def test_bytes_that_are_no_text(raw: bytes, guarded: Cli, stranger: Stranger) -> None:
    stranger.manifest.write_bytes(raw)
    check_answer(guarded(*OPENINGS["sample"]), 4)


def test_a_manifest_of_many_gigabytes(guarded: Cli, stranger: Stranger) -> None:
    with stranger.manifest.open("ab") as file:
        file.truncate(8 * 2**30)  # it takes no room
    check_answer(guarded(*OPENINGS["sample"]), 4)


CONFIGS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"objective": 1}',
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"objective": {"_target_": "x.Classify"}}',
]


@pytest.mark.parametrize("raw", CONFIGS, ids=lambda raw: ascii(raw[:12]))
def test_a_config_that_is_none(raw: bytes, guarded: Cli, judge: Stranger, tmp_path: Path) -> None:
    (judge.folder / "config.json").write_bytes(raw)
    check_answer(guarded(*JUDGED["table"]), 0)  # the checkpoint has it, too
    shutil.rmtree(judge.folder / "checkpoints")
    check_answer(guarded(*JUDGED["table"]), 2, 3, 4)
    (judge.folder / "metrics.jsonl").write_bytes(b'{"test_accuracy": "high"}\n{"step": ' + b"[" * 10**5)
    check_answer(guarded(*JUDGED["table"]), 2, 3, 4)


ROWS = ['"high"', "NaN", "1e400", "null", "[]", "{}", '"\\u001b[31m"', "true", "-1", "9" * 5000]


@pytest.mark.parametrize("value", ROWS, ids=lambda text: text[:9])
def test_accuracies_that_are_none(value: str, guarded: Cli, judge: Stranger) -> None:
    (judge.folder / "metrics.jsonl").write_text(f'{{"step": 4, "val_accuracy": {value}, "test_accuracy": {value}}}\n')
    check_answer(guarded(*JUDGED["table"]))


EVALUATIONS: list[Any] = [
    {}, {"protocol": 1}, {"protocol": {}}, {"protocol": {}, "figures": []}, {"protocol": {}, "figures": {"fd": 1}},
    {"protocol": {}, "figures": {"fd": {"value": "x", "protocol": {}}}}, {"protocol": {}, "bits_per_dim": {"elbo": 1}},
    {"protocol": {"n": 1}, "bits_per_dim": {"elbo": {"mean": "x", "error": None}}},
    {"protocol": {"n": 1}, "bits_per_dim": {"elbo": {"mean": 10**400, "error": None}}},
    {"protocol": {"model": "\x1b[31mred"}, "figures": {"\x1b[31m": {"value": 1, "protocol": {"\x1b": "\x1b"}}}},
    {"protocol": {"dataset": "\x1b[31m[/]", "split": "[bold]", "n": "\x9b"}, "bits_per_dim": {"elbo": {"mean": 1, "error": 1}}},
    {"protocol": None}, {"protocol": {}, "accuracy": 1, "figures": {"accuracy": {"value": 1, "protocol": None}}}, [], None, "x",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(EVALUATIONS)))
def test_evaluations_that_are_none(number: int, guarded: Cli, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e/eval.json").write_text(json.dumps(EVALUATIONS[number]))
    result = guarded("table", "of=e", "out=o")
    check_answer(result)
    assert not [c for c in FORBIDDEN if c in result.out + result.err]
