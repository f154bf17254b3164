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
from PIL import Image

from ddpm_cli.config.sweep_runs import LONGEST, name_of
from ddpm_cli.config.sweeps import Sweep
from ddpm_cli.errors import ConfigError
from ddpm_cli.runs.asked import RECORD, Asked, check_run, find, read
from ddpm_cli.text import quoted
from tests.conftest import TINY, Cli, slow

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


FORMS = [
    (["hydra.mode=MULTIRUN", "seed=1,2", "run_dir=s"], ["s/seed=1", "s/seed=2"]),
    (["-m", "run_dir=a,b"], ["a", "b"]),
    (["-m", "seed=1,2", "run_dir=s/${seed}"], ["s/1", "s/2"]),
]
MORE_FORMS = [
    (["-m", "seed=1,2", "run_dir=s"], ["s/seed=1", "s/seed=2"]),
    (["-m", "seed=1,2", "run_dir=s/runs/"], ["s/runs/seed=1", "s/runs/seed=2"]),
    (["-m", "run_dir=a,b", "seed=1,2"], ["a/seed=1", "a/seed=2", "b/seed=1", "b/seed=2"]),
    (["-m", "seed=1,2", "run_dir=s/${seed}", "optimizer.lr=0.001,0.002"], [
            "s/1/optimizer.lr=0.001", "s/1/optimizer.lr=0.002", "s/2/optimizer.lr=0.001", "s/2/optimizer.lr=0.002"]),
    (["-m", "seed=1,2", "hydra.sweep.dir=s"], ["s/seed=1", "s/seed=2"]),
    (["-m", "seed=1,2", "hydra.sweep.dir=s", "hydra.sweep.subdir=${hydra.job.num}"], ["s/0", "s/1"]),
    (["-m", "seed=range(1,3)", "run_dir=my runs"], ["my runs/seed=1", "my runs/seed=2"]),
]  # fmt: skip


@pytest.mark.parametrize("form, found", [*FORMS, *(pytest.param(*form, marks=slow) for form in MORE_FORMS)])
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


@slow
def test_a_second_key_finds_the_runs_that_had_its_value_all_along(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=s", "optimizer.lr=1e-3", *QUICK).code == 0
    result = cli("train", "-m", "optimizer.lr=0.001,0.002", "seed=1", "run_dir=s", *QUICK)
    assert result.code == 0 and "s/seed=1: already finished" in result.out
    assert folders(tmp_path) == ["s/optimizer.lr=0.002", "s/seed=1", "s/seed=2"]


@slow
def test_other_settings_make_other_runs_in_the_same_folder(cli: Cli, tmp_path: Path) -> None:
    """The number of a run said nothing about it: an extended sweep went on from another one's weights."""
    assert cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK).code == 0
    assert cli("train", "-m", "seed=1,2", "run_dir=s", "optimizer.lr=5e-3", *QUICK).code == 0
    names = folders(tmp_path)
    assert len(names) == 4 and names[0] == "s/seed=1" and names[1].startswith("s/seed=1-")
    assert len({tensors(tmp_path / name) for name in names}) == 4


@slow
@pytest.mark.parametrize(
    "first, second",
    [
        (["seed=1"], ["seed=1", "trainer.grad_clip=null"]),
        (["seed=1"], ["seed=1", "+optimizer.weight_decay=0.5"]),
        (["seed=1", "schedule=linear"], ["seed=1", "schedule=cosine"]),
    ],
)
def test_settings_that_only_one_of_them_has_or_that_are_null_count(
    first: list[str], second: list[str], cli: Cli, tmp_path: Path
) -> None:
    for arguments in (first, second):
        assert cli("train", "-m", *arguments, "run_dir=s", *QUICK).code == 0
    assert len(folders(tmp_path)) == 2 and len({tensors(tmp_path / name) for name in folders(tmp_path)}) == 2


def test_null_is_a_value_of_a_sweep(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "trainer.grad_clip=null,1", "run_dir=s", *QUICK).code == 0
    assert folders(tmp_path) == ["s/trainer.grad_clip=1", "s/trainer.grad_clip=null"]


@slow
def test_a_value_of_hydra_in_the_name_does_not_tell_runs_apart(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=${hydra:runtime.cwd}/runs", *QUICK).code == 0
    assert cli("train", "-m", "seed=1,2", "run_dir=n/${hydra:job.num}", *QUICK).code == 0
    assert folders(tmp_path) == ["n/0", "n/1", "runs/seed=1", "runs/seed=2"]


@slow
def test_experiments_that_differ_in_their_length_only(cli: Cli, tmp_path: Path) -> None:
    for name, steps in (("short", 2), ("long", 3)):
        (tmp_path / "conf/experiment").mkdir(parents=True, exist_ok=True)
        text = f"# @package _global_\ntrainer:\n  steps: {steps}\n"
        (tmp_path / f"conf/experiment/{name}.yaml").write_text(text)
    rest = [a for a in QUICK if not a.startswith("trainer.steps")]
    result = cli("train", "-m", "experiment=short,long", "run_dir=s", *rest)
    assert result.code == 0 and "2 runs: 2 finished" in result.out
    assert sorted(p.name for p in tmp_path.glob("s/*/checkpoints/*2.json")) == ["step_00000002.json"]
    assert (tmp_path / "s/experiment=long/checkpoints/step_00000003.json").exists()


@slow
def test_a_sweep_that_a_file_describes(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n      trainer.steps: 2,3\n"
    (tmp_path / "conf/experiment/x.yaml").write_text(text)
    rest = [a for a in QUICK if not a.startswith("trainer.steps")]
    assert cli("train", "-m", "experiment=x", "run_dir=s", *rest).code == 0
    assert sorted(p.name for p in (tmp_path / "s").glob("*=*")) == [
        f"seed={seed}_trainer.steps={steps}" for seed in (1, 2) for steps in (2, 3)
    ]


@slow
def test_a_config_of_another_name_is_that_of_its_runs(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mc").mkdir()
    (tmp_path / "mc/my.yaml").write_text("defaults: [train, _self_]\noptimizer: {lr: 0.5}\n")
    result = cli("train", "-m", "--config-dir", "mc", "--config-name", "my", "seed=1,2", "run_dir=s", *QUICK)
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "s/seed=2/config.json").read_text())["optimizer"]["lr"] == 0.5


def test_a_run_that_is_not_what_the_sweep_asked_for_is_refused(tmp_path: Path) -> None:
    Asked({"seed": 1, "trainer": {"steps": 2}}, {}, frozenset()).write(tmp_path)
    check_run(tmp_path, {"seed": 1, "trainer": {"steps": 3}})
    with pytest.raises(ConfigError, match="seed: is 1 in the sweep, but 2 in its run"):
        check_run(tmp_path, {"seed": 2, "trainer": {"steps": 2}})


@slow
def test_an_interpolation_has_the_value_of_the_sweep(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-m", "optimizer.lr=1e-3,2e-3", "seed=${hydra:job.num}", "run_dir=s", *QUICK)
    assert result.code == 0, result.err
    seeds = [json.loads((tmp_path / name / "config.json").read_text())["seed"] for name in folders(tmp_path)]
    assert seeds == [0, 1]


@slow
@pytest.mark.parametrize("how", ["hydra.mode=2", "hydra.mode=RunMode.MULTIRUN", "--multi"])
def test_other_ways_to_ask_for_a_sweep(how: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", how, "seed=1,2", "run_dir=s", *QUICK)
    assert result.code == 0, result.err
    assert folders(tmp_path) == ["s/seed=1", "s/seed=2"]


def test_another_folder_of_pictures_is_another_run(tmp_path: Path) -> None:
    one, other = (Asked({"dataset": {"root": root}}, {}, frozenset()) for root in ("a", "b"))
    assert not one.same_run(other)
    assert not Asked({"finetune": None}, {}, frozenset()).same_run(Asked({"finetune": "r"}, {}, frozenset()))


@slow
def test_a_folder_that_its_name_alone_gives_to_a_run_is_not_shared(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=r/${seed}", *QUICK).code == 0
    before = tensors(tmp_path / "r/1")
    result = cli("train", "-m", "seed=1,3", "run_dir=r/${seed}", "optimizer.lr=0.1", *QUICK)
    assert result.code == 2 and "run_dir: r/1 has a run with another value of optimizer.lr" in result.err
    assert folders(tmp_path) == ["r/1", "r/2", "r/3"] and tensors(tmp_path / "r/1") == before
    assert cli("train", "-m", "seed=4", "run_dir=r/${seed}", *QUICK).code == 0 and "r/4" in folders(tmp_path)


@slow
def test_a_run_that_is_of_no_sweep_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "seed=1", "optimizer.lr=0.1", "run_dir=s/seed=1", *QUICK).code == 0
    before = tensors(tmp_path / "s/seed=1")
    assert cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK).code == 0
    assert len(folders(tmp_path)) == 3 and tensors(tmp_path / "s/seed=1") == before


@slow
def test_flags_may_follow_the_overrides(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mc/optimizer").mkdir(parents=True)
    (tmp_path / "mc/optimizer/own.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.01\n")
    result = cli("train", "-m", "optimizer=adam,own", "run_dir=s", *QUICK, "--config-dir", "mc")
    assert result.code == 0 and folders(tmp_path) == ["s/optimizer=adam", "s/optimizer=own"], result.err


@slow
def test_a_link_to_a_run_is_listed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "s").mkdir()
    (tmp_path / "s/seed=1").symlink_to("../there")
    (tmp_path / "s/loop").symlink_to(".")
    result = cli("train", "-m", "seed=1,2", "run_dir=s", *QUICK)
    assert result.code == 0 and "2 runs: 2 finished" in result.out


@slow
def test_samples_are_named_by_what_was_swept(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", *QUICK).code == 0
    few = ["ckpt=run", "n=1", "sampler.steps=2"]
    for place in (["hydra.sweep.dir=y"], ["out=w"]):
        assert cli("sample", "-m", "seed=1,2", *place, *few).code == 0
    assert sorted(str(p.parent.relative_to(tmp_path)) for p in tmp_path.glob("[wy]/*/grid.png")) == [
        "w/seed=1", "w/seed=2", "y/seed=1", "y/seed=2"]  # fmt: skip


@slow
def test_swept_paths_are_letter_for_letter_in_the_runs(cli: Cli, tmp_path: Path) -> None:
    places = ["a b", "it's", "x=1,y", "фото"]
    for i, name in enumerate(places):
        for k in range(4):
            file = tmp_path / "pictures" / name / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * i + k).save(file)
    roots = ",".join(quoted(f"pictures/{name}") for name in places)
    data = ["dataset=image_folder", "dataset.size=8", f"dataset.root={roots}", "dataset.val_fraction=0.25"]
    assert cli("train", "-m", *data, "run_dir=s", *QUICK).code == 0
    found = {json.loads((tmp_path / name / "config.json").read_text())["dataset"]["root"] for name in folders(tmp_path)}
    assert found == {f"pictures/{name}" for name in places}


def test_what_is_swept_counts_even_if_it_usually_makes_no_other_run() -> None:
    def asked(steps: int, *swept: str) -> Asked:
        config = {"seed": 0, "trainer": {"steps": steps}, "run_dir": str(steps)}
        return Asked(config, {"trainer.steps": str(steps)}, frozenset(swept))

    assert asked(2).same_run(asked(4))
    assert not asked(2, "trainer.steps").same_run(asked(4)) and not asked(2).same_run(asked(4, "trainer"))
    assert asked(2, "trainer.steps").same_run(asked(2))


def test_names_that_a_file_system_does_not_tell_apart(tmp_path: Path) -> None:
    one, other = (
        Asked({"trainer": {"precision": value}}, {}, frozenset({"trainer.precision"})) for value in ("A", "a")
    )
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


@slow
def test_a_stopped_sweep_goes_on_where_it_was(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "-m", "seed=1,2", "run_dir=whole", *QUICK).code == 0
    assert cli("train", "-m", "seed=1,2", "run_dir=parts", *QUICK, "trainer.steps=1").code == 0
    shutil.rmtree(tmp_path / "parts/seed=2")
    result = cli("train", "-m", "seed=1,2", "run_dir=parts", *QUICK)
    assert result.code == 0 and result.err.count("resuming from step 1 of 2") == 1
    for name in ("seed=1", "seed=2"):
        assert tensors(tmp_path / "whole" / name) == tensors(tmp_path / "parts" / name)


@slow
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
        sweep = Sweep.of("train", ["-m", "seed=1,2", f"run_dir={text}"])
        sweep.close()
        assert sweep.root == Path(root), text
    for text in ("${seed}", "a,b"):
        sweep = Sweep.of("train", ["-m", "seed=1,2", f"run_dir={text}"])
        sweep.close()
        assert sweep.root is None


@slow
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
