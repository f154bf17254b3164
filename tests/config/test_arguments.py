"""Paths and names on the command line are text, whatever Hydra's grammar would make of them."""

from pathlib import Path

import pytest

from ddpm_cli.config.arguments import prepared
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import call
from ddpm_cli.text import quoted, unquoted

NAMES = (
    "фото", "写真", "pics (1)", "it's", 'say "x"', "a&b", "a,b", "[2024]", "{x}", "2026_09_25", "1e5", "007", "0x10",
    "true", "null", "nan", "~", "a=b", "a b ", "#1", "x;y", "100%", "a\\b", "end\\", "choice(a,b)", "$HOME", "a:b",
    "-x", "@home", "new\nline", "tab\there", "'", "[a", "b]", "a?b*", "!", "^", "🙂", "..", "é",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(name: str) -> None:
    config = compose_command("train", prepared("train", ["dataset=image_folder", f"dataset.root=./{name}"]))
    assert config.dataset.root == f"./{name}"
    for command, key in (("train", "run_dir"), ("sample", "ckpt"), ("sample", "out"), ("eval", "features")):
        found = compose_command(command, prepared(command, [f"{key}={name}"]))[key]
        assert found == (None if (name, key) == ("null", "features") else name)


@pytest.mark.parametrize("name", NAMES)
def test_each_item_of_a_list_may_have_any_name(name: str) -> None:
    items = [f"./{name}" if "," not in name else f'"./{name}"', "other"]
    if name in ('say "x"', "b]", "a b "):  # a list drops blanks around items
        items[0] = quoted(f"./{name}")
    found = compose_command("table", prepared("table", [f"of=[{','.join(items)}]"])).of
    assert list(found) == [f"./{name}", "other"]


@pytest.mark.parametrize("name", NAMES)
def test_each_value_of_a_sweep_may_be_quoted(name: str) -> None:
    arguments = prepared("train", ["-m", f"dataset.root={quoted(name)},{quoted('other')}"])
    assert arguments == ["-m", f"dataset.root={quoted(name)},{quoted('other')}"]
    assert unquoted(quoted(name)) == name


def test_a_sweep_over_paths_is_split_at_commas() -> None:
    assert prepared("train", ["-m", "dataset.root=~/a,b (1),[c]"])[1] == 'dataset.root="~/a","b (1)","[c]"'
    assert prepared("sample", ["-m", "labels=[1,2],[3]"])[1] == 'labels=["1","2"],["3"]'
    assert prepared("train", ["-m", "dataset.root=glob(*)"])[1] == "dataset.root=glob(*)"


def test_a_run_of_a_sweep_can_be_named_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    assert prepared("verify", ["s/seed=1", "deep=true"]) == ["deep=true", 'ckpt="s/seed=1"']
    assert prepared("runs", ["seed=1", "s/seed=2", "sort=step"]) == ["sort=step", 'of=["seed=1","s/seed=2"]']
    assert prepared("runs", ["~/a", "hydra/job_logging=x"]) == ["hydra/job_logging=x", 'of="~/a"']
    assert prepared("verify", ["seed=3", "-m"]) == ["seed=3", "-m"]


def test_in_a_sweep_a_comma_in_quotation_marks_belongs_to_the_name() -> None:
    assert prepared("train", ["-m", "run_dir='a,b'"])[1] == "run_dir='a,b'"
    assert prepared("train", ["-m", "run_dir=a,b"])[1] == 'run_dir="a","b"'
    assert prepared("train", ["hydra.mode=MULTIRUN", "run_dir=a,b"])[1] == 'run_dir="a","b"'


def test_values_that_are_no_text_stay_as_they_are() -> None:
    typed = ["seed=007", "trainer.steps=5", "sampler.steps=10", "dataset=digits", "trainer.budget=10min", "--help"]
    assert prepared("train", typed) == typed
    assert prepared("train", ["resume=false", "dataset.root=null"]) == ["resume=false", "dataset.root=null"]
    assert prepared("train", ["run_dir=runs/x", "dataset.cache=auto"]) == ["run_dir=runs/x", "dataset.cache=auto"]
    assert prepared("sample", ["between=[3,17]"]) == ["between=[3,17]"]


def test_quotation_marks_of_hydra_still_work() -> None:
    for typed in ('run_dir="a b"', "run_dir='a b'"):
        assert compose_command("train", prepared("train", [typed])).run_dir == "a b"


def test_an_interpolation_still_works() -> None:
    typed = prepared("train", ["run_dir=runs/${seed} x", "seed=3"])
    assert compose_command("train", typed).run_dir == "runs/3 x"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("experiment=null", []),
        ("~experiment", []),
        ("logger=null", ["logger=none"]),
        ("~logger", ["logger=none"]),
        ("guidance=null", ["guidance=none"]),
    ],
)
def test_a_group_can_be_null(typed: str, meant: list[str]) -> None:
    assert prepared("train", [typed]) == meant
    compose_command("train", prepared("train", [typed]))


def test_home_is_expanded_wherever_a_path_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    small = ["model.channels=8", "trainer.steps=1", "trainer.batch_size=4", "trainer.sample_every=0", "logger=none"]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    call("train", ["run_dir=~/2026_09_25", *small])
    assert (tmp_path / "2026_09_25" / "config.json").is_file()
    call("sample", ["ckpt=~/2026_09_25", "n=2", "out=~/some (out)", "sampler.steps=2"])
    assert (tmp_path / "some (out)" / "sample.json").is_file()
    import ddpm_cli

    assert ddpm_cli.load("~/2026_09_25").shape == (1, 8, 8)
    assert [path.name for path in work.iterdir()] == ["outputs"]
