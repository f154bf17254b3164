"""The folders of a sweep's runs, and which runs a sweep finds again."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpm_cli.config.sweeps import LONGEST, Sweep, name_of
from ddpm_cli.runs.asked import RECORD, Asked, find, read
from tests.conftest import TINY, Cli

QUICK = [*TINY, "trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "trainer.steps=2"]


def folders(root: Path) -> list[str]:
    """Of all runs with checkpoints, relative to `root`."""
    return sorted(str(p.parent.parent.relative_to(root)) for p in root.rglob("checkpoints/step_00000002.json"))


def tensors(run: Path) -> str:
    digest: str = json.loads((run / "checkpoints/step_00000002.json").read_text())["sha256"]
    return digest


@pytest.mark.parametrize(
    "overrides, name",
    [
        (["seed=1"], "seed=1"),
        (["seed=1", "schedule=cosine"], "seed=1_schedule=cosine"),
        (["optimizer.lr=1e-3"], "optimizer.lr=1e-3"),
        (["+model.extra=1"], "model.extra=1"),
        (['dataset.root="фото"'], "dataset.root=фото"),
        (["trainer.precision=bf16", "sampler@x=ddim"], "trainer.precision=bf16_sampler@x=ddim"),
    ],
)
def test_a_folder_is_named_by_what_was_swept(overrides: list[str], name: str) -> None:
    assert name_of(overrides) == name


@pytest.mark.parametrize(
    "value",
    [
        "[1,2]",
        '"a/b"',
        '"../.."',
        '"a b"',
        '"it\'s"',
        '"a:b*?"',
        "x" * 300,
        '"-"',
        "${seed}",
        '"a."',
        "\n",
    ],
)
def test_a_name_is_safe_whatever_the_value_is(value: str, tmp_path: Path) -> None:
    name = name_of([f"labels={value}"])
    assert not set(name) & set("/\\:*?\"<>|, \n'$[]()") and len(name.encode()) <= LONGEST + 9
    assert name != name_of([f"labels={value}2"]) and name == name.strip("-. ")
    (tmp_path / name).mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "form, found",
    [
        (["-m", "seed=1,2", "run_dir=s"], ["s/seed=1", "s/seed=2"]),
        (["hydra.mode=MULTIRUN", "seed=1,2", "run_dir=s"], ["s/seed=1", "s/seed=2"]),
        (["-m", "seed=1,2", "run_dir=s/runs/"], ["s/runs/seed=1", "s/runs/seed=2"]),
        (["-m", "run_dir=a,b"], ["a", "b"]),
        (["-m", "run_dir=a,b", "seed=1,2"], ["a/seed=1", "a/seed=2", "b/seed=1", "b/seed=2"]),
        (["-m", "seed=1,2", "run_dir=s/${seed}"], ["s/1", "s/2"]),
        (["-m", "seed=1,2", "run_dir=s/${seed}", "optimizer.lr=0.001,0.002"], [
            "s/1/optimizer.lr=0.001", "s/1/optimizer.lr=0.002", "s/2/optimizer.lr=0.001", "s/2/optimizer.lr=0.002"]),
        (["-m", "seed=1,2", "hydra.sweep.dir=s"], ["s/seed=1", "s/seed=2"]),
        (["-m", "seed=1,2", "hydra.sweep.dir=s", "hydra.sweep.subdir=${hydra.job.num}"], ["s/0", "s/1"]),
        (["-m", "seed=range(1,3)", "run_dir=my runs"], ["my runs/seed=1", "my runs/seed=2"]),
    ],
)  # fmt: skip
def test_run_dir_means_the_same_folder_in_every_form(
    form: list[str], found: list[str], cli: Cli, tmp_path: Path
) -> None:
    result = cli("train", *form, *QUICK)
    assert result.code == 0, result.err
    assert folders(tmp_path) == found
    left = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir() and not any(p.iterdir())]
    assert not left and (not (tmp_path / "outputs").exists() or not (tmp_path / "outputs/multirun").exists())
    again = cli("train", *form, *QUICK)
    assert again.code == 0 and again.out.count("already finished") == len(found) and folders(tmp_path) == found


def test_an_extended_sweep_keeps_its_runs_and_mixes_none(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK).code == 0
    before = {name: tensors(tmp_path / name) for name in folders(tmp_path)}
    more = cli("train", "-m", "seed=0,2,1", "run_dir=s", *QUICK)
    assert more.code == 0 and more.out.count("already finished") == 2
    assert folders(tmp_path) == ["s/seed=0", "s/seed=1", "s/seed=2"]
    assert {name: tensors(tmp_path / name) for name in before} == before
    assert cli("train", "run_dir=alone", "seed=0", *QUICK).code == 0
    assert tensors(tmp_path / "alone") == tensors(tmp_path / "s/seed=0")
    fewer = cli("train", "-m", "seed=2", "run_dir=s", *QUICK)
    assert fewer.code == 0 and "s/seed=2: already finished" in fewer.out


def test_a_second_key_finds_the_runs_that_had_its_value_all_along(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=s", "optimizer.lr=1e-3", *QUICK).code == 0
    result = cli("train", "-m", "optimizer.lr=0.001,0.002", "seed=1", "run_dir=s", *QUICK)
    assert result.code == 0 and "s/seed=1: already finished" in result.out
    assert folders(tmp_path) == ["s/optimizer.lr=0.002", "s/seed=1", "s/seed=2"]


def test_other_settings_make_other_runs_in_the_same_folder(cli: Cli, tmp_path: Path) -> None:
    """The number of a run said nothing about it: an extended sweep went on from another one's weights."""
    assert cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK).code == 0
    assert cli("train", "-m", "seed=1,2", "run_dir=s", "optimizer.lr=5e-3", *QUICK).code == 0
    names = folders(tmp_path)
    assert len(names) == 4 and names[0] == "s/seed=1" and names[1].startswith("s/seed=1-")
    assert len({tensors(tmp_path / name) for name in names}) == 4


def test_what_is_swept_counts_even_if_it_usually_makes_no_other_run() -> None:
    def asked(steps: int, *swept: str) -> Asked:
        return Asked({"seed": 0, "trainer": {"steps": steps}, "run_dir": str(steps)}, frozenset(swept))

    assert asked(2).same_run(asked(4))
    assert not asked(2, "trainer.steps").same_run(asked(4)) and not asked(2).same_run(asked(4, "trainer"))
    assert asked(2, "trainer.steps").same_run(asked(2))


def test_names_that_a_file_system_does_not_tell_apart(tmp_path: Path) -> None:
    one, other = (Asked({"trainer": {"precision": value}}, frozenset({"trainer.precision"})) for value in ("A", "a"))
    one.write(tmp_path / "x")
    assert find(tmp_path, "x", one) == tmp_path / "x"
    assert find(tmp_path, "x", other) == tmp_path / f"x-{other.digest()}"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1, "swept": 2, "code": 3, "reason": 4}', "[" * 100_000])
def test_a_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(text)
    assert read(tmp_path) is None


def test_a_crash_and_a_failure_leave_the_others_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import os\n\nfrom ddpm_cli.models.unet import UNet\n\n\n"
        "def network(how: str = '', **options: object) -> UNet:\n"
        "    if how == 'crash':\n        os.abort()\n"
        "    if how == 'raise':\n        raise ValueError('it does not like that')\n"
        "    return UNet(**options)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(str(tmp_path))
        kinds = ["model._target_=bad.network", "+model.how=fine,raise,crash,good"]
        result = cli("train", "-m", *kinds, "run_dir=s", *QUICK)
    assert result.code not in (0, 134) and folders(tmp_path) == ["s/model.how=fine", "s/model.how=good"], result.err
    assert "2 of 4 runs failed:" in result.out and "model.how=crash: ended by SIGABRT" in result.out
    assert "it does not like that" in result.out.partition("runs failed")[2]
    assert [read(tmp_path / f"s/model.how={kind}").code for kind in ("fine", "raise", "crash")] == [0, result.code, 134]  # type: ignore[union-attr]


def test_a_stopped_sweep_goes_on_where_it_was(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=whole", *QUICK).code == 0
    assert cli("train", "-m", "seed=1,2", "run_dir=parts", *QUICK, "trainer.steps=1").code == 0
    shutil.rmtree(tmp_path / "parts/seed=2")
    result = cli("train", "-m", "seed=1,2", "run_dir=parts", *QUICK)
    assert result.code == 0 and result.err.count("resuming from step 1 of 2") == 1
    for name in ("seed=1", "seed=2"):
        assert tensors(tmp_path / "whole" / name) == tensors(tmp_path / "parts" / name)


def test_printed_commands_work_when_pasted(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-m", "seed=1,2", "run_dir=it's a sweep", *QUICK)
    lines = [line for line in result.out.splitlines() if "ddpm sample" in line]
    assert result.code == 0 and len(lines) == 2
    for line in lines:
        command = "ddpm sample" + line.partition("ddpm sample")[2] + " n=1 sampler=ddim sampler.steps=1"
        function = f'ddpm() {{ "{sys.executable}" -c "from ddpm_cli.cli import main; main()" "$@"; }}; {command}'
        assert subprocess.run(["sh", "-c", function], cwd=tmp_path, check=False).returncode == 0


def test_a_sweep_of_animations_keeps_the_name_of_their_file(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", *QUICK).code == 0
    few = ["sampler.steps=2", "frames=2", "n=1", "scale=1"]
    result = cli("gif", "-m", "ckpt=run", "seed=1,2", "out=g/x.gif", *few)
    assert result.code == 0, result.err
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.gif")) == ["g/seed=1/x.gif", "g/seed=2/x.gif"]


def test_the_parts_of_a_path_before_an_interpolation_hold_the_sweep() -> None:
    for text, root in (("s/${seed}", "s"), ("s/a-${seed}", "s"), ("s/t/${seed}/x", "s/t"), ("s", "s")):
        with Sweep.of("train", ["-m", "seed=1,2", f"run_dir={text}"], None) as sweep:
            assert sweep.root == Path(root), text
    for text in ("${seed}", "a,b"):
        with Sweep.of("train", ["-m", "seed=1,2", f"run_dir={text}"], None) as sweep:
            assert sweep.root is None


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_the_run_of_a_killed_sweep_saves_and_ends(
    program: Callable[..., "subprocess.Popen[str]"], cli: Cli, tmp_path: Path
) -> None:
    long = [a for a in QUICK if not a.startswith("trainer.steps")]
    process = program("train", "-m", "seed=1,2", "run_dir=s", *long, "trainer.steps=100000", "trainer.save_every=5")
    wait_for(lambda: bool(list((tmp_path / "s/seed=1/checkpoints").glob("*.json"))))
    process.kill()
    process.communicate()
    wait_for(lambda: "1 run: 1 stopped" in cli("runs", "s").out)
    assert not (tmp_path / "s/seed=2").exists()


def wait_for(done: Callable[[], bool]) -> None:
    for _ in range(300):
        if done():
            return
        time.sleep(0.1)
    raise AssertionError
