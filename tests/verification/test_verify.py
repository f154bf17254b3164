"""`ddpm verify`: of a run, and of the machine."""

import json
import shutil
import signal
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm_cli.runs import checkpoint
from ddpm_cli.runs.checkpoint import digest
from ddpm_cli.verification import files
from ddpm_cli.verification.replay import _Until
from ddpm_cli.verification.selftest import SelfTest

from ..conftest import TINY, Cli
from ..manifests import edit
from ..training.test_budget import RUN as BUDGET
from ..training.test_budget import Machine

RUN = ["run_dir=run", "trainer.steps=6", "trainer.save_every=2", "logger=none", *TINY]


@pytest.fixture
def trained(cli: Cli) -> Cli:
    assert cli("train", *RUN).code == 0
    return cli


def test_a_run_that_is_as_it_was_written(trained: Cli) -> None:
    for name in ("run", "ckpt=run", "run/checkpoints"):
        result = trained("verify", name)
        assert result.code == 0 and result.out.count("valid") == 3 and not result.err, result.err
        assert "training would resume from step 6" in result.out
    deep = trained("verify", "run", "deep=true")
    assert deep.code == 0 and "steps 4 to 6, trained again, give the same values bit for bit" in deep.out


@pytest.mark.parametrize("model", ["vae_conv", "gmm", "resnet"])
def test_the_last_steps_of_every_family_are_the_same_again(model: str, cli: Cli) -> None:
    sizes = [o for o in TINY if not o.startswith("model.")]
    sizes += ["model.channels=4", "model.latent=2", "model.prior_components=1"] if model == "vae_conv" else []
    assert cli("train", f"model={model}", *RUN[:4], *sizes).code == 0
    result = cli("verify", "run", "deep=true")
    assert result.code == 0 and "give the same values bit for bit" in result.out, result.err


def newest(folder: Path) -> Path:
    return folder / "run/checkpoints/step_00000006.safetensors"


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def replaced(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Other tensors, with a manifest that fits."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    facts = {"size": path.stat().st_size, "sha256": digest(path)}
    edit(path.with_suffix(".json"), lambda content: content.update(facts))


def test_damage_is_found_and_named(trained: Cli, tmp_path: Path) -> None:
    flip(newest(tmp_path))
    (tmp_path / "run/checkpoints/step_00000004.json").unlink()
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    (tmp_path / "run/samples/step_00000006.png").write_bytes(b"x")
    result = trained("verify", "run", "deep=true")
    assert result.code == 4, result
    assert "is damaged (wrong size or digest)" in result.out and "is missing" in result.out
    assert "and 1 that cannot be read" in result.out and "step_00000006.png cannot be read" in result.out
    assert "training would resume from step 2" in result.out and "needs two valid checkpoints" in result.out
    assert "run: 2 of 3 checkpoints damaged, 2 other files damaged" in result.err
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert "has no checkpoints" in trained("verify", "run").err


def test_values_that_no_training_makes(trained: Cli, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        next(t for n, t in tensors.items() if n.startswith("ema."))[0] = float("nan")

    replaced(newest(tmp_path), spoil)
    assert "NaN or infinite" in trained("verify", "run").out
    replaced(newest(tmp_path), lambda tensors: tensors.update({"model.more": torch.zeros(1)}))
    assert trained("verify", "run").code == 4


def test_a_change_of_one_bit_that_no_digest_shows_is_found_by_training_again(trained: Cli, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        name = next(n for n in tensors if n.startswith("model.") and tensors[n].ndim > 1)
        tensors[name].view(torch.int32).flatten()[0] ^= 1

    replaced(newest(tmp_path), change)
    assert trained("verify", "run").code == 0
    result = trained("verify", "run", "deep=true")
    assert result.code == 4 and "give other values in 1 tensor (model." in result.out.replace("\n", " ")


def test_the_last_steps_of_a_run_with_a_budget_are_the_same_again(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slower machine, too; at the beginning, before the first decision, and after the budget was raised."""

    def trained(seconds: int) -> list[Path]:
        with monkeypatch.context() as patch:
            Machine(step=2.0).use(patch)
            assert cli(*BUDGET, "trainer.keep_last=100", f"trainer.budget={seconds}").code == 0
        return sorted((tmp_path / "run/checkpoints").glob("*.json"))

    def again(kept: Collection[Path]) -> str:
        place = tmp_path / "again"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(tmp_path / "run", place)
        for path in (place / "checkpoints").iterdir():
            if path.stem not in {p.stem for p in kept}:
                path.unlink()
        with monkeypatch.context() as patch:
            Machine(step=5.0).use(patch)
            result = cli("verify", "again", "deep=true")
        assert result.code == 0, result
        return result.out.replace("\n", " ")

    same = "give the same values bit for bit"
    first = trained(200)
    assert same in again(first) and same in again(first[:2])
    raised = trained(400)
    assert len(raised) > len(first) and same in again(raised) and same in again(raised[: len(first) + 1])
    (tmp_path / "run/budget.json").unlink()
    assert "it is not known how the run fitted its steps" in again(raised)


def test_the_self_test(cli: Cli, tmp_path: Path) -> None:
    result = cli("verify", "kills=1")
    assert result.code == 0 and result.out.count("as it should be") == 6, result
    assert not list(tmp_path.iterdir())  # nothing stays


def test_the_self_test_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that gives back other bytes, each check finds it."""
    test = SelfTest(tmp_path, kills=1)
    assert test._written() == (1, "")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    replaced(
        tmp_path / "killed/checkpoints/step_00000012.safetensors",
        lambda tensors: next(t for n, t in tensors.items() if n.startswith("model.")).add_(1),
    )
    assert test._differs(tmp_path / "killed").startswith("1 of ")
    monkeypatch.setattr(checkpoint, "digest", lambda path: json.loads(path.with_suffix(".json").read_text())["sha256"])
    assert test._tensors_damaged() == (1, "the damage was not found")
    (tmp_path / "whole/.lock").unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["deep=true"], "deep: needs a run"),
        (["kills=0"], "kills: must be at least 1"),
        (["nothing"], "nothing: is not a run directory"),
        (["run_dir=/proc/none"], "run_dir: /proc/none cannot be written"),
    ],
)
def test_mistakes(arguments: list[str], words: str, cli: Cli) -> None:
    result = cli("verify", *arguments)
    assert result.code in (2, 4, 6) and words in result.err, result.err


def test_an_interrupt_while_training_again_is_no_damage(trained: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Until, "advance", lambda self, step, seconds: signal.raise_signal(signal.SIGINT))
    result = trained("verify", "run", "deep=true")
    assert result.code == 130 and result.err.startswith("ddpm: interrupted"), result


def test_the_last_steps_where_ctrl_c_is_ignored(trained: Cli) -> None:
    """As in a background job of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = trained("verify", "run", "deep=true")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.code == 0 and "give the same values bit for bit" in result.out, result


def test_a_checkpoint_that_a_training_run_removes_meanwhile_is_no_damage(
    trained: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = files._row

    def removed(manifest_path: Path, *rest: object) -> object:
        if manifest_path.stem == "step_00000002":
            manifest_path.unlink()
            manifest_path.with_suffix(".safetensors").unlink()
        return original(manifest_path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "_row", removed)
    result = trained("verify", "run")
    assert result.code == 0 and result.out.count("valid") == 2, result
