"""What the program says when something is missing, stopped or damaged, and that the advice works as printed."""

import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import TINY, Cli
from ..manifests import edit

RUN = ["train", "run_dir=run", "trainer.steps=2", "trainer.sample_every=0", "logger=none", *TINY]


@pytest.fixture
def trained(cli: Cli) -> Cli:
    assert cli(*RUN).code == 0
    return cli


@pytest.mark.parametrize("key", ["n", "seed", "out", "weights", "device", "precision", "trust", "debug", "guidance"])
@pytest.mark.parametrize("command", ["sample", "gif", "eval"])
def test_a_key_that_was_removed_is_missing(command: str, key: str, trained: Cli) -> None:
    result = trained(command, "ckpt=run", f"~{key}")
    assert result.code == 2 and f"{key}: is missing; set it" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "steps=3"], "did you mean 'schedule.steps' or 'sampler.steps' or 'trainer.steps'?"),
        (["train", "lr=3"], "did you mean 'optimizer.lr'?"),
        (["train", "model.learned_variance=true"], "model.learned_variance: must be the same as objective."),
        (["sample", "ckpt=run", "guidance=classifier"], "set guidance.classifier=RUN of a classifier"),
        (["sample", "ckpt=run", "guidance=classifier", "guidance.classifier=null"], "guidance.classifier: is required"),
        (["eval", "ckpt=run", "bpd=null"], "bpd: must be a group of keys (steps, terms, "),
        (["train", "logger=flat"], "logger: a file of conf/logger needs a name above its keys"),
        (["train", "logger=listed"], "logger: a file of conf/logger needs a name above its keys"),
    ],
)
def test_the_advice_fits(arguments: list[str], words: str, trained: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "conf/logger"
    folder.mkdir(parents=True)
    (folder / "flat.yaml").write_text("_target_: ddpm_cli.runs.loggers.TensorBoard\n")
    (folder / "listed.yaml").write_text("- _target_: ddpm_cli.runs.loggers.TensorBoard\n")
    result = trained(*arguments)
    assert result.code == 2 and words in result.err, result.err


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            manifest = manifest[name]
        if value is KeyError:
            del manifest[last]
        else:
            manifest[last] = value

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        change("config.model", KeyError),
        change("config.model", "x"),
        change("about", None),
        change("about.shape", "abc"),
        change("about.class_names", 5),
    ],
)
@pytest.mark.parametrize("command", ["sample", "eval", "gif"])
def test_a_damaged_manifest_is_named(command: str, damage: Any, trained: Cli, tmp_path: Path) -> None:
    file = tmp_path / "run/checkpoints/step_00000002.json"
    edit(file, damage)
    result = trained(command, "ckpt=run", "out=out")
    assert result.code == 4 and "step_00000002" in result.err and "bug" not in result.err, result.err


def test_a_run_that_would_not_train_at_all_is_an_error(trained: Cli, tmp_path: Path) -> None:
    result = trained(*RUN, "run_dir=longer", "resume=run", "trainer.steps=1")
    assert result.code == 2 and "is already at step 2; raise the limit" in result.err
    assert not (tmp_path / "longer").exists()


def test_the_next_command_can_be_typed(cli: Cli, tmp_path: Path) -> None:
    result = cli(*RUN, 'run_dir="it is (1)"')
    assert result.code == 0
    advice = result.out.splitlines()[-1].partition(" with ")[2]
    words = shlex.split(advice)
    assert words[:2] == ["ddpm", "sample"]
    assert cli("sample", *words[2:], "n=1", "sampler=ddim", "sampler.steps=1").code == 0


@pytest.mark.parametrize("sweep", [False, True])
def test_a_stopped_run_says_how_to_resume(
    sweep: bool, program: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    long = [a for a in RUN if not a.startswith(("run_dir", "trainer.steps"))]
    extra = ["-m", "seed=1,2"] if sweep else []
    process = program(*long, "run_dir=runs/a", "trainer.steps=100000", "trainer.save_every=5", *extra)
    wanted = tmp_path / ("runs/a/seed=1" if sweep else "runs/a") / "checkpoints/step_00000005.json"
    for _ in range(1200):
        if wanted.exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    last = err.strip().splitlines()[-1]
    what = "to resume the sweep, run the same command with run_dir=runs/a" if sweep else "with run_dir=runs/a"
    assert last.endswith(what) and "Ctrl-C: saving, then stopping; press Ctrl-C again to quit now" in err
