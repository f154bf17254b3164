"""metrics.jsonl: repaired when a run resumes, and changes of what was saved are said."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_cli.runs.logs import Rows, sealed_bytes

from ..conftest import TINY, Cli

RUN = [
    "train",
    "run_dir=run",
    "trainer.log_every=1",
    "trainer.save_every=2",
    "logger=none",
    "trainer.sample_every=0",
    *TINY,
]
CHANGED = "metrics.jsonl: is not as it was at step 4; rows are lost or changed"


def test_a_seal_covers_all_rows_so_far(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "metrics.jsonl")
    assert rows.seal() == {}
    seals = []
    for step in range(1, 5):
        rows.add({"step": step})
        seals.append(rows.seal())
    raw = (tmp_path / "metrics.jsonl").read_bytes()
    assert [sealed_bytes(raw, seal) for seal in seals] == [12, 24, 36, 48]
    again = Rows(tmp_path / "metrics.jsonl")
    again.resume(3, seals[2])
    assert again.seal() == seals[2]
    changed = raw.replace(b"2", b"7")
    assert [sealed_bytes(changed, seal) for seal in seals] == [12, None, None, None]
    assert sealed_bytes(raw[:40], seals[3]) is None and sealed_bytes(b"", seals[0]) is None


def test_what_no_manifest_covers_is_kept_if_it_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step": 1}\n{"step": 2, "x\n\xff\n[]\n{"step": "2"}\n{"step": 3}\n{"step": 2}')
    Rows(file).resume(2, {})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_no_row_is_added_to_those_of_a_manifest(tmp_path: Path) -> None:
    """Such as a copy of an earlier one; what was written after the save is written again."""
    rows = Rows(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        rows.add({"step": step})
    sealed, raw = rows.seal(), rows.path.read_bytes()
    more = raw + b'{"step": 1}\n{"step": 2, "best_step": 1}\n{"step": 3}\n{"st'
    rows.path.write_bytes(more)
    Rows(rows.path).resume(2, sealed, done=True)
    assert rows.path.read_bytes() == raw + b'{"step": 2, "best_step": 1}\n'
    rows.path.write_bytes(more)
    Rows(rows.path).resume(2, sealed)
    assert rows.path.read_bytes() == raw


def digit(raw: bytes) -> bytes:
    at = raw.index(b"0.")
    return raw[: at + 3] + bytes([raw[at + 3] ^ 1]) + raw[at + 4 :]


def lost(raw: bytes) -> bytes:
    return b"".join(raw.splitlines(keepends=True)[1:])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a digit": digit,
    "a row": lost,
    "all": lambda raw: b"",
    "a cut": lambda raw: raw[:100],
    "a page": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_and_changes_nothing_else(damage: str, cli: Cli, tmp_path: Path) -> None:
    assert cli(*RUN, "trainer.steps=4").code == 0
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    file = tmp_path / "run/metrics.jsonl"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    checked = cli("verify", "run")
    assert checked.code == 4 and "is not as it was saved" in checked.out.replace("\n", " ")
    for folder in ("run", "whole"):
        result = cli(*RUN, "trainer.steps=6", f"run_dir={folder}")
        assert result.code == 0 and (CHANGED in result.err) == (folder == "run"), result.err
        again = cli(*RUN, "trainer.steps=8", f"run_dir={folder}")
        assert again.code == 0 and "is not as it was" not in again.err
    name = "checkpoints/step_00000008.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row][-4:] == [5, 6, 7, 8]
    assert cli("verify", "run").code == 0


def test_rows_that_were_cut_after_the_last_save_are_repaired_in_silence(cli: Cli, tmp_path: Path) -> None:
    assert cli(*RUN, "trainer.steps=4").code == 0
    file = tmp_path / "run/metrics.jsonl"
    whole = file.read_bytes()
    for steps, n in enumerate(random.Random(0).sample(range(60), 3), start=5):
        file.write_bytes(whole + b'{"step": 5, "loss": 0.5, "lr": 0.001, "grad_norm": 1.0, "epoch": 0.1}'[:n])
        result = cli(*RUN, f"trainer.steps={steps}")
        assert result.code == 0 and "metrics.jsonl" not in result.err
        assert all(isinstance(json.loads(line), dict) for line in file.read_text().splitlines())
        whole = file.read_bytes()


CLASSIFIER = [
    *RUN[:2],
    "model=resnet",
    "model.channels=8",
    "trainer.best_by=val_loss",
    "trainer.steps=4",
    "trainer.eval_every=2",
]
CLASSIFIER += [
    "trainer.batch_size=4",
    "trainer.save_every=2",
    "logger=none",
    "trainer.sample_every=0",
    "trainer.eval_images=8",
]


def test_a_table_shows_no_changed_accuracy_and_no_changed_network(cli: Cli, tmp_path: Path) -> None:
    """The last row, which is written after training, as well. The config is that of the checkpoint."""
    assert cli("train", *CLASSIFIER[1:]).code == 0
    shown = cli("table", "of=[run]")
    assert shown.code == 0
    config = tmp_path / "run/config.json"
    config.write_text(config.read_text().replace('"channels": 8', '"channels": 9'))
    assert cli("table", "of=[run]").out == shown.out
    checked = cli("verify", "run")
    assert "config.json differs from that of the newest checkpoint in model.channels" in checked.out.replace("\n", " ")
    file = tmp_path / "run/metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert "best_step" in lines[-1]
    file.write_text("".join([*lines[:-1], lines[-1].replace('"val_accuracy": 0.', '"val_accuracy": 0.9')]))
    result = cli("table", "of=[run]")
    assert result.code == 3 and "run/metrics.jsonl: is damaged" in result.err and "ddpm eval ckpt=run" in result.err


@pytest.mark.parametrize("done", [True, False], ids=["finished", "half done"])
@pytest.mark.parametrize("damage", ["deleted", "a digit", "cut"])
def test_a_run_writes_its_config_again(damage: str, done: bool, cli: Cli, tmp_path: Path) -> None:
    """The checkpoints have it; a finished run also looks at its rows."""
    assert cli(*RUN, "trainer.steps=4").code == 0
    if not done:
        for path in (tmp_path / "run/checkpoints").glob("step_00000004.*"):
            path.unlink()
    config, rows = tmp_path / "run/config.json", tmp_path / "run/metrics.jsonl"
    whole = config.read_bytes()
    if damage == "deleted":
        config.unlink()
    else:
        config.write_bytes(whole[:-50] if damage == "cut" else whole.replace(b'"steps": 4', b'"steps": 5'))
    rows.write_bytes(rows.read_bytes().replace(b'"loss": ', b'"loss": 1'))
    result = cli(*RUN, "trainer.steps=4")
    assert result.code == 0 and config.read_bytes() == whole, result.err
    assert f"metrics.jsonl: is not as it was at step {4 if done else 2}" in result.err
    assert not done or "run/config.json: is not that of step 4; it is written again" in result.err


def test_a_finished_run_whose_newest_checkpoint_is_damaged_takes_nothing_away(cli: Cli, tmp_path: Path) -> None:
    """The one before knows less than these files."""
    assert cli(*RUN, "trainer.steps=4").code == 0
    (tmp_path / "run/checkpoints/step_00000004.safetensors").write_bytes(b"")
    before = [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "metrics.jsonl")]
    result = cli(*RUN, "trainer.steps=2")
    assert result.code == 0 and "already finished (step 2)" in result.out
    assert [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "metrics.jsonl")] == before
