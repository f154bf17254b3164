"""Signals, readers that go away and full disks lose no work."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ddpm_cli.errors import StorageError
from ddpm_cli.sampling.kept import Kept, KeptValues
from ddpm_cli.sampling.task import Task

from ..conftest import TINY, Cli

Start = Callable[..., "subprocess.Popen[str]"]
LONG = ["run_dir=run", "trainer.steps=100000", "logger=none", "trainer.log_every=1", "trainer.sample_every=0", *TINY]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def when(path: Path, text: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and text in path.read_text(encoding="utf-8", errors="replace")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGXCPU", 128 + 24), ("SIGTERM", 143)])
def test_a_signal_saves_and_stops(name: str, code: int, program: Start, tmp_path: Path) -> None:
    number = getattr(signal, name)
    process = program("train", *LONG)
    when(tmp_path / "run/metrics.jsonl", '"step": 5,', process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code == 128 + number and f"{name}: saving, then stopping" in err, err
    assert "to resume, run the same command with run_dir=run" in err
    assert list((tmp_path / "run/checkpoints").glob("*.json"))


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2"])
def test_the_warning_of_a_cluster_saves_and_goes_on(name: str, program: Start, tmp_path: Path) -> None:
    process = program("train", *LONG)
    when(tmp_path / "run/metrics.jsonl", '"step": 5,', process)
    process.send_signal(getattr(signal, name))
    when(tmp_path / "run/train.log", f"{name}: saving, then going on", process)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "run/checkpoints").glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) and process.returncode == 143


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_does_not_end_a_training(stream: str, program: Start, tmp_path: Path) -> None:
    process = program("train", *LONG, "trainer.steps=40")
    reader = getattr(process, stream)
    assert reader.readline()
    reader.close()
    other = process.stderr if stream == "stdout" else process.stdout
    assert other is not None
    other.read()
    assert process.wait(timeout=120) == 0
    log = (tmp_path / "run/train.log").read_text()
    assert "finished at step 40" in log and len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) >= 40


def test_closed_streams_do_not_end_a_training(tmp_path: Path) -> None:
    arguments = " ".join(f"'{a}'" for a in [*LONG, "trainer.steps=3"])
    root = Path(__file__).parents[2]
    command = f"python -c 'from ddpm_cli.cli import main; main()' train {arguments} >&- 2>&-"
    import sys

    script = command.replace("python", sys.executable, 1)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0 and "finished at step 3" in (tmp_path / "run/train.log").read_text()


def test_a_stdout_that_is_not_utf8(tmp_path: Path, program: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = program("train", *LONG[1:], "trainer.steps=1", "run_dir=ergebnisse-für-Änne")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "\\xfcr" in out + err and (tmp_path / "ergebnisse-für-Änne/config.json").exists()
    shown = program("train", "--cfg", "job", "run_dir=фото")
    out, err = shown.communicate(timeout=60)
    assert shown.returncode == 0 and "\\u0444" in out, err


def test_forced_colours_move_no_cursor_in_a_file(
    tmp_path: Path, program: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    process = program("train", *LONG, "trainer.steps=3")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not any(code in out + err for code in ("\x1b[2K", "\x1b[1A", "\x1b[?25l", "\r"))
    assert "step 3/3" in out and "finished at step 3" in err


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends the drawing after a number of batches, as a signal would."""

    def install(batches: int) -> None:
        original = Task.batches

        def cut(self: Task, *arguments: object, **options: object) -> Iterator[tuple[range, Tensor]]:
            for number, item in enumerate(original(self, *arguments, **options)):  # type: ignore[arg-type]
                if number == batches:
                    raise KeyboardInterrupt
                yield item

        monkeypatch.setattr(Task, "batches", cut)

    return install


def test_sampling_continues_where_it_was_stopped(
    cli: Cli, tmp_path: Path, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0
    draw = ["ckpt=run", "n=10", "batch_size=3", "sampler.steps=2"]
    assert cli("sample", *draw, "out=whole").code == 0
    with monkeypatch.context():
        killed_after(2)
        stopped = cli("sample", *draw, "out=parts")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert stopped.code == 130 and "stopped, with 6 of 10 images drawn" in stopped.err
    assert "run the same command with out=parts" in stopped.err
    assert len(list((tmp_path / "parts/images").iterdir())) == 6 and not (tmp_path / "parts/sample.json").exists()
    calls: list[int] = []
    original = Task._batch
    monkeypatch.setattr(Task, "_batch", lambda self, rows, *a: (calls.append(len(rows)), original(self, rows, *a))[1])
    again = cli("sample", *draw, "out=parts")
    assert again.code == 0 and "continuing at image 6 of 10" in again.err and calls == [3, 1], again.err
    whole, parts = (np.load(tmp_path / name / "samples.npz")["arr_0"] for name in ("whole", "parts"))
    assert (whole == parts).all()
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}
    for i in range(10):
        name = f"images/{i:06}.png"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_another_request_does_not_continue(tmp_path: Path) -> None:
    kept, shape = Kept(tmp_path), (1, 2, 2)
    assert kept.begin({"seed": 0}, 4, shape) == []
    kept.add(0, torch.zeros(2, *shape, dtype=torch.uint8))
    assert [len(p) for p in Kept(tmp_path).begin({"seed": 0}, 4, shape)] == [2]
    assert Kept(tmp_path).begin({"seed": 1}, 4, shape) == []
    kept = Kept(tmp_path)
    kept.begin({"seed": 0}, 4, shape)
    kept.add(0, torch.zeros(2, *shape, dtype=torch.uint8))
    part = tmp_path / ".drawn/0000000.npy"
    part.write_bytes(part.read_bytes()[:-3])
    assert Kept(tmp_path).begin({"seed": 0}, 4, shape) == []


def test_another_picture_under_the_same_name_does_not_continue(
    cli: Cli, tmp_path: Path, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0
    vary = ["ckpt=run", "n=4", "batch_size=2", "sampler.steps=4", "init=in.png", "out=s"]
    Image.new("L", (8, 8), 10).save(tmp_path / "in.png")
    killed_after(1)
    assert cli("sample", *vary).code == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8), 200).save(tmp_path / "in.png")
    again = cli("sample", *vary)
    assert again.code == 0 and "continuing at image" not in again.err


def test_a_full_disk_is_found_before_the_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("ddpm_cli.sampling.kept.shutil.disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match=r"the images need about .* MiB, but it has 1 MiB free; free some space"):
        Kept(tmp_path).begin({}, 1000, (3, 32, 32))


def test_an_evaluation_keeps_its_samples(
    cli: Cli, tmp_path: Path, killed_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0
    measure = ["ckpt=run", "n=6", "batch_size=2", "metrics=[memorisation]", "sampler.steps=2"]
    whole = cli("eval", *measure, "out=whole")
    assert whole.code == 0, whole.err
    killed_after(2)
    stopped = cli("eval", *measure, "out=parts")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert stopped.code == 130 and "with 4 samples drawn" in stopped.err, stopped.err
    again = cli("eval", *measure, "out=parts")
    assert again.code == 0 and "continuing at image 4 of 6" in again.err
    one, other = (json.loads((tmp_path / n / "eval.json").read_text())["figures"] for n in ("whole", "parts"))
    assert one == other and not (tmp_path / "parts/.drawn").exists()


@pytest.mark.parametrize("model", ["unet_tiny", "vae_conv", "gmm"])
def test_an_evaluation_keeps_its_bits(model: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = TINY if model == "unet_tiny" else [o for o in TINY if not o.startswith("model.")]
    sizes = [*sizes, "model.channels=4", "model.latent=2"] if model == "vae_conv" else sizes
    trained = cli("train", f"model={model}", "run_dir=run", "trainer.steps=2", "logger=none", *sizes)
    assert trained.code == 0, trained.err
    measure = ["ckpt=run", "n=6", "batch_size=2", "metrics=[bpd]"]
    if model == "unet_tiny":
        measure += ["bpd.steps=4", "bpd.ode_steps=2"]
    assert cli("eval", *measure, "out=whole").code == 0
    original, batches = KeptValues.batch, []

    def killed(self: KeptValues, rows: range, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if rows.start == 4:
            raise KeyboardInterrupt
        return original(self, rows, compute)

    def counted(self: KeptValues, rows: range, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        return original(self, rows, lambda: (batches.append(rows), compute())[1])

    monkeypatch.setattr(KeptValues, "batch", killed)
    stopped = cli("eval", *measure, "out=parts")
    assert stopped.code == 130 and "the bits/dim of 4 images measured" in stopped.err, stopped.err
    monkeypatch.setattr(KeptValues, "batch", counted)
    again = cli("eval", *measure, "out=parts")
    assert again.code == 0 and batches == [range(4, 6)], again.err
    one, other = (json.loads((tmp_path / n / "eval.json").read_text()) for n in ("whole", "parts"))
    assert one["bits_per_dim"] == other["bits_per_dim"] and not (tmp_path / "parts/.drawn").exists()
    cli("eval", *measure, "seed=1", "out=parts")
    assert len(batches) == 4  # another seed: everything is measured again


def test_a_command_that_writes_one_file_removes_what_a_killed_one_left(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "model=resnet", "model.channels=8", "trainer.steps=2", *TINY[2:]).code == 0
    assert cli("train", "run_dir=drawn", "trainer.steps=1", "trainer.sample_every=0", *TINY).code == 0
    for name in ("table.md", "x.gif", "x.png", "mine.md"):
        (tmp_path / f".{name}.12.part").touch()
    assert cli("table", "of=[run]", "out=.").code == 0
    assert cli("gif", "ckpt=drawn", "kind=forward", "n=2", "frames=3", "out=x.gif").code == 0
    assert [path.name for path in tmp_path.glob("*.part")] == [".mine.md.12.part"]  # a name that is not ours stays
