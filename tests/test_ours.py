"""Only files that the program wrote are ever replaced or removed."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ddpm_cli.ours import listed, reserved

from .conftest import TINY, Cli

FAST = ["sampler.steps=1", "n=2"]
BITS = ["metrics=[bpd]", "n=1", "bpd.steps=2", "bpd.terms=2", "bpd.ode_steps=0"]
COMMANDS: dict[str, list[str]] = {
    "train": ["trainer.steps=1", "logger=tensorboard", "trainer.sample_every=1", *TINY],
    "sample": ["ckpt=run", *FAST],
    "gif": ["ckpt=run", *FAST, "frames=2"],
    "eval": ["ckpt=run", *BITS],
    "bench": ["what=samplers", "steps=[5]", "samplers=[ddim]", "n=50"],
}
NAMES = (
    "input.png", "grid.png", "samples.npz", "sample.json", "images/000000.png", "images/mine.png", "eval.json",
    "bound.png", "samples.png", "bench.json", "samplers.png", "denoise.gif", "table.md", "config.json", "metrics.jsonl",
    "train.log", "checkpoints/step_00000001.safetensors", "samples/step_00000001.png", "tensorboard/events",
    "data.json", ".x.part", "notes.txt",
)  # fmt: skip


@pytest.fixture
def run(cli: Cli) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0


def fill(folder: Path) -> dict[Path, str]:
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine: {name}")
    return state(folder)


def state(folder: Path) -> dict[Path, str]:
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_touches_the_files_of_others(command: str, run: None, cli: Cli, tmp_path: Path) -> None:
    before = fill(tmp_path / "own")
    key = "run_dir" if command == "train" else "out"
    result = cli(command, f"{key}=own", *COMMANDS[command])
    after = state(tmp_path / "own")
    assert result.code == 2 and result.err.startswith(f"ddpm: error: {key}: own"), result.err
    assert {p: h for p, h in after.items() if p in before} == before
    assert {p.name for p in after.keys() - before.keys()} <= {".lock"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_replaces_what_it_wrote_itself(command: str, run: None, cli: Cli, tmp_path: Path) -> None:
    key = "run_dir" if command == "train" else "out"
    for _ in range(2):
        result = cli(command, f"{key}=again", *COMMANDS[command])
        assert result.code == 0, result.err
    (tmp_path / "again/notes.txt").write_text("mine")
    result = cli(command, f"{key}=again", *COMMANDS[command])
    assert result.code == 0 and (tmp_path / "again/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("command", ["sample", "eval", "bench"])
def test_a_run_is_no_place_for_the_output_of_other_commands(command: str, run: None, cli: Cli, tmp_path: Path) -> None:
    before = state(tmp_path / "run")
    refused = cli(command, "out=run", *COMMANDS[command])
    assert refused.code == 2 and "run has other files" in refused.err and state(tmp_path / "run") == before


def test_samples_and_an_evaluation_do_not_share_a_folder(run: None, cli: Cli, tmp_path: Path) -> None:
    assert cli("sample", "ckpt=run", "out=s", *FAST).code == 0
    assert cli("eval", "out=s", *COMMANDS["eval"]).code == 2
    assert (tmp_path / "s/sample.json").exists()


def test_fewer_samples_replace_more(run: None, cli: Cli, tmp_path: Path) -> None:
    assert cli("sample", "ckpt=run", "out=s", "n=5", "sampler.steps=1").code == 0
    own = tmp_path / "s/images/mine.png"
    own.write_text("mine")
    assert cli("sample", "ckpt=run", "out=s", "n=2", "sampler.steps=1").code == 0
    assert sorted(p.name for p in (tmp_path / "s/images").iterdir()) == ["000000.png", "000001.png", "mine.png"]
    (tmp_path / "s/images/000002.png").write_text("mine too")
    refused = cli("sample", "ckpt=run", "out=s", "n=3", "sampler.steps=1")
    assert refused.code == 2 and "000002.png is a file that this program did not write" in refused.err


def test_the_picture_to_vary_is_not_overwritten(run: None, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    Image.new("L", (8, 8), 99).save(tmp_path / "own/input.png")
    before = state(tmp_path / "own")
    assert cli("sample", "ckpt=run", "init=own/input.png", "out=own", *FAST).code == 2
    assert {p: h for p, h in state(tmp_path / "own").items() if p.suffix} == before


def test_single_files_of_others(run: None, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.gif").write_bytes(b"GIF89a mine")
    refused = cli("gif", "ckpt=run", "out=mine.gif", *FAST)
    assert refused.code == 2 and "was not written by this program" in refused.err
    assert (tmp_path / "mine.gif").read_bytes() == b"GIF89a mine"
    for _ in range(2):
        assert cli("gif", "ckpt=run", "out=ours.gif", "frames=2", *FAST).code == 0


def test_two_commands_at_the_same_time_have_a_folder_each(tmp_path: Path) -> None:
    folders: list[Path] = []
    ready = threading.Barrier(6)

    def use(default: bool) -> Callable[[], None]:
        def run() -> None:
            ready.wait()
            with reserved(tmp_path / "12-00-00-sample", default) as folder:
                assert folder not in folders
                folders.append(folder)
                (folder / "grid.png").write_text("x")
                ready.wait()

        return run

    threads = [threading.Thread(target=use(True)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*folders}) == 6 and all(sorted(p.name for p in f.iterdir()) == ["grid.png"] for f in folders)


def test_a_folder_that_the_user_named_is_used_by_one_command(tmp_path: Path) -> None:
    from ddpm_cli.errors import BusyError

    with reserved(tmp_path / "s", False), pytest.raises(BusyError), reserved(tmp_path / "s", False):
        pass
    assert not any((tmp_path / "s").iterdir())
    with reserved(tmp_path / "s", False):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"n": "x", "checkpoint_sha256": 1}', '"x"', "\xff"])
def test_a_damaged_marker_lists_nothing_unknown(text: str, tmp_path: Path) -> None:
    for name in (".ddpm.json", "sample.json", "eval.json", "bench.json", "config.json"):
        (tmp_path / name).write_text(text)
    assert not any(name.startswith("images") for name in listed(tmp_path))
