"""ddpm table of evaluations and runs."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpm_cli.config.launch import launch
from ddpm_cli.evaluation.settings import differing

from ..conftest import TINY, Cli

SHORT = ["trainer.sample_every=0", "logger=none", "trainer.steps=10", "trainer.eval_every=10", *TINY]
CLASSIFIER = ["model=unet_classifier", "objective.noisy=false", "trainer.eval_images=null"]
METRICS = ["features=clf", "resamples=3", "sampler.steps=2", "metrics=[fd,kd,pr]", "batch_size=100"]
BITS = ["metrics=[bpd]", "bpd.steps=4", "bpd.ode_steps=1", "n=8"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluations")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", list(sys.argv))
        jobs = [
            ["train", "run_dir=generator", *SHORT],
            ["train", "run_dir=clf", *SHORT, *CLASSIFIER],
            ["train", "run_dir=wider", *SHORT, *CLASSIFIER, "model.channels=16"],
            ["train", "run_dir=noisy", *SHORT, "model=unet_classifier"],
            ["eval", "out=two", "ckpt=generator", *METRICS, "n=20"],
            ["eval", "out=three", "ckpt=generator", *METRICS, "n=20", "sampler.steps=3", "sampler.eta=1"],
            ["eval", "out=fewer", "ckpt=generator", *METRICS, "n=19"],
            ["eval", "out=features", "ckpt=generator", *METRICS, "n=20", "features=wider"],
            ["eval", "out=bits", "ckpt=generator", *BITS],
            ["eval", "out=bits_other", "ckpt=generator", *BITS, "seed=1"],
            ["eval", "out=bits_raw", "ckpt=generator", *BITS, "weights=raw"],
            ["eval", "out=bits_ode", "ckpt=generator", *BITS, "bpd.ode_steps=2"],
            ["eval", "out=bits_terms", "ckpt=generator", *BITS, "bpd.terms=2"],
            ["eval", "out=copies", "ckpt=generator", "metrics=memorisation", "n=10", "sampler.steps=2"],
            ["eval", "out=accuracy", "ckpt=clf"],
        ]
        for command, *arguments in jobs:
            assert launch(command, arguments) == 0, arguments
    return folder


@pytest.fixture
def at(place: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Cli:
    monkeypatch.chdir(place)
    return cli


def content(place: Path, name: str) -> dict[str, Any]:
    """An evaluation, without its digest."""
    found: dict[str, Any] = json.loads((place / name / "eval.json").read_text())
    return {key: value for key, value in found.items() if key != "digest"}


def test_samplers_side_by_side(place: Path, at: Cli, tmp_path: Path) -> None:
    before = sorted(place.iterdir())
    result = at("table", "of=[two,three]")
    assert result.code == 0, result.err
    assert sorted(place.iterdir()) == before  # without out= nothing is written
    assert "20 samples, 180 val images of digits" in result.out
    figure = content(place, "three")["figures"]["fd"]
    assert f"{figure['value']:.3f} ± {figure['spread']:.3f}" in result.out
    rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines() if line.strip()}
    assert rows["steps"] == ["2", "3"] and rows["sampler"] == ["ddim", "eta=0", "ddim", "eta=1"]
    assert "guidance" not in rows and "seeds" not in rows  # they are the same
    written = at("table", "of=[two,three]", f"out={tmp_path}/t")
    assert written.code == 0
    text = (tmp_path / "t/table.md").read_text()
    assert text.startswith("## samples: 20 samples") and "|  | two | three |\n|---|---:|---:|\n" in text
    assert f"{figure['value']:.3f} ± " in text


def test_bits_of_several_models(place: Path, at: Cli, tmp_path: Path) -> None:
    """The evaluations of a mixture or an autoencoder have the same form, but other kinds of bits per dimension."""
    other = content(place, "bits")
    means, errors = {"exact": 1.25, "elbo": 1.5, "iw_bound": 1.375}, {"exact": 0.01, "elbo": 0.02, "iw_bound": None}
    other["bits_per_dim"] = {kind: {"mean": means[kind], "error": errors[kind]} for kind in means}
    other["protocol"] |= {"model": "Mixture"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/eval.json").write_text(json.dumps(other))
    result = at("table", f"of=[bits,bits_raw,{tmp_path}/other]")
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if len(line.split()) >= 5]
    kinds = [(row[0], row[1], row[3]) for row in rows if row[0] in ("bits", "bits_raw", "other")]
    assert kinds == [
        *((name, "UNet", kind) for name in ("bits", "bits_raw") for kind in ("bound", "ode")),
        *(("other", "Mixture", kind) for kind in ("exact", "elbo", "iw_bound")),
    ]
    assert ["other", "Mixture", "10", "exact", "1.2500", "0.0100", "8"] in rows
    assert "bits/dim of 8 val images of digits" in result.out


def test_a_table_of_classifiers(place: Path, at: Cli, tmp_path: Path) -> None:
    with (place / "wider/metrics.jsonl").open("a") as file:  # the last line of a run with best_by; one is incomplete
        file.write('{"step": 10, "best_step": 5, "val_accuracy": 0.75, "test_accuracy": 0.7125}\n')
        file.write('{"step": 10, "val_accur')
    result = at("table", "of=[clf,wider]")
    assert result.code == 0, result.err
    last = [json.loads(x) for x in (place / "clf/metrics.jsonl").read_text().splitlines()][-1]
    rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines() if line.strip()}
    assert rows["clf"][:3] == ["UNetClassifier", "8", f"{last['val_accuracy']:.2%}"]
    assert rows["wider"][:4] == ["UNetClassifier", "16", "75.00%", "71.25%"] and "model.channels" in result.out
    assert int(rows["clf"][-1].replace(",", "")) == parameters(place / "clf")


def parameters(run: Path) -> int:
    from safetensors import safe_open

    with safe_open(next((run / "checkpoints").glob("*.safetensors")), "pt") as file:
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
        return sum(file.get_tensor(name).numel() for name in names)


def test_a_pattern_groups_evaluations_that_cannot_be_compared(place: Path, at: Cli) -> None:
    """Named one by one, the same folders are an error."""
    result = at("table", "of=[t*,fewer*]")
    assert result.code == 0, result.err
    two, rest = result.out.split("19 samples")
    assert "two" in two and "three" in two and "fewer" in rest
    assert "2 groups that cannot be compared with each other: n: is 20 in fd of three but 19 in fd of fewer" in rest
    assert at("table", "of=[two,three,fewer]").code == 2


def test_runs_are_told_apart_by_their_settings(place: Path, at: Cli, tmp_path: Path) -> None:
    """The folders of a sweep are numbers, which say nothing."""
    for number, other in enumerate(({}, {"schedule": "LinearSchedule", "schedule.steps": "50", "seed": "1"})):
        changed = content(place, "two")
        changed["protocol"]["settings"] |= other
        (tmp_path / str(number)).mkdir()
        (tmp_path / f"{number}/eval.json").write_text(json.dumps(changed))
    assert content(place, "two")["protocol"]["settings"]["model.channels"] == "8"
    assert not any("run_dir" in key for key in content(place, "two")["protocol"]["settings"])
    result = at("table", f"of=[{tmp_path}/0,{tmp_path}/1]")
    assert result.code == 0, result.err
    rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines() if line.strip()}
    assert rows["schedule"][1] == "LinearSchedule" and rows["seed"] == ["0", "1"] and "schedule.steps" not in rows


STRANGE = {"a": "\ud800", "b": "x\n| y | z |", "c": "\x1b[2J[red]", "d": "|"}


def test_strange_settings_are_shown_as_text(place: Path, at: Cli, tmp_path: Path) -> None:
    for number, other in enumerate(({}, STRANGE)):
        changed = content(place, "two")
        changed["protocol"] |= {"settings": other or dict.fromkeys(STRANGE, "1"), "model": "\udcff\n"}
        (tmp_path / f"{number}\n").mkdir()
        (tmp_path / f"{number}\n/eval.json").write_text(json.dumps(changed))
    result = at("table", f"of=['{tmp_path}/*']", f"out={tmp_path}/t")
    assert result.code == 0, result.err
    written = (tmp_path / "t/table.md").read_text()
    assert "\x1b" not in result.out + written and "[red]" in written and "\\|" in written
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1


@pytest.mark.parametrize("settings", [{str(i): "" for i in range(10**5)}, {"a": "x" * 10**6}, {"a": 1}, ["a"], "x"])
def test_impossible_settings_are_damage(settings: Any, place: Path, at: Cli, tmp_path: Path) -> None:
    changed = content(place, "two")
    changed["protocol"]["settings"] = settings
    (tmp_path / "e").mkdir()
    (tmp_path / "e/eval.json").write_text(json.dumps(changed))
    result = at("table", f"of=[{tmp_path}/e]")
    assert result.code == 3 and "is damaged; run ddpm eval again" in result.err, result.err


def test_the_class_of_the_model_has_one_row(place: Path, at: Cli, tmp_path: Path) -> None:
    changed = content(place, "two")
    changed["protocol"] |= {"model": "VAE"}
    changed["protocol"]["settings"] |= {"model": "VAE", "model.channels": "9"}
    (tmp_path / "e").mkdir()
    (tmp_path / "e/eval.json").write_text(json.dumps(changed))
    rows = at("table", f"of=[two,{tmp_path}/e]").out.splitlines()
    assert [row.split() for row in rows if row.strip().startswith("model")] == [["model", "UNet", "VAE"]]


def test_runs_with_many_other_settings_are_not_compared_by_them() -> None:
    settings = [{str(key): str(run) for key in range(20)} for run in range(2)]
    assert (
        differing(settings) == [] and differing([{"a": "1"}, {"a": "2"}]) == ["a"] and differing([{"a": "1"}, {}]) == []
    )


def test_a_figure_is_never_cut(place: Path, at: Cli) -> None:
    names = ["two", "three"] * 4
    result = at("table", f"of=[{','.join(f'./{n}/../{n}' for n in dict.fromkeys(names))}]")
    assert result.code == 0 and "…" not in result.out
    for name in ("two", "three"):
        figure = content(place, name)["figures"]["kd"]
        assert f"{figure['value']:.4f} ± {figure['spread']:.4f}" in result.out


def test_patterns_find_evaluations_and_classifiers(place: Path, at: Cli) -> None:
    result = at("table", 'of=["t*","cl?","two"]')  # a folder that is named twice is shown once
    assert result.code == 0, result.err
    header = next(line for line in result.out.splitlines() if "three" in line)
    assert header.split() == ["three", "two"] and "classifiers of digits" in result.out
    absolute = at("table", f'of="{place}/t*"')
    assert absolute.code == 0 and "three" in absolute.out


def test_a_pattern_skips_runs_without_an_accuracy(place: Path, at: Cli, tmp_path: Path) -> None:
    shutil.copytree(place / "clf", tmp_path / "clf")
    shutil.copytree(place / "clf", tmp_path / "young")
    (tmp_path / "young/metrics.jsonl").write_text('{"step": 1, "loss": 2.3}\n')
    result = at("table", f'of="{tmp_path}/*"')
    assert result.code == 0, result.err
    assert "young" in result.out.split("skipped, no accuracy yet: ")[1].splitlines()[0]
    assert "clf" in result.out.split("skipped")[1].split("\n", 1)[1]
    for alone in (f"of=[{tmp_path}/young]", f'of="{tmp_path}/y*"'):
        refused = at("table", alone)
        assert refused.code == 2 and "has no accuracy yet" in refused.err


@pytest.mark.parametrize(
    ("of", "code", "message"),
    [
        ("[two,fewer]", 2, "n: is 20 in fd of two but 19 in fd of fewer; measure both in the same way"),
        ("[two,features]", 2, "extractor: is classifier"),
        ("[bits,bits_other]", 2, "seed: is 0 in bits but 1 in bits_other"),
        ("[bits,bits_ode]", 2, "ode_steps: is 1 in ode of bits but 2 in ode of bits_ode"),
        ("[bits,bits_terms]", 2, "terms: is 4 in bound of bits but 2 in bound of bits_terms"),
        ("[two,copies]", 2, "n: is 20 in two but 10 in copies"),
        ("[clf,noisy]", 2, "objective.noisy: is False in clf but True in noisy"),
        ("[generator]", 2, "of: generator is a run without an evaluation; run ddpm eval ckpt=generator and name its"),
        ("[nowhere]", 2, "of: nowhere is not a folder"),
        ("[]", 2, "of: is empty; name out folders"),
        ('["gener*"]', 2, "of: gener* matches 1 run without an evaluation; run ddpm eval ckpt=generator and name its"),
        ('["nothing*"]', 2, "of: nothing* matches no evaluation"),
        ("[two/tensorboard]", 2, "of: two/tensorboard is not a folder"),
        ("[generator/checkpoints]", 2, "of: generator/checkpoints has no eval.json"),
        ("[broken]", 3, "broken/eval.json: is damaged; run ddpm eval again"),
    ],
)
def test_incomparable_or_missing_entries_are_an_error(of: str, code: int, message: str, place: Path, at: Cli) -> None:
    (place / "broken").mkdir(exist_ok=True)
    (place / "broken/eval.json").write_text('{"figures": {}')
    result = at("table", f"of={of}", "out=tables")
    assert result.code == code and message in result.err, result.err
    assert len(result.err.splitlines()) == 1 and not (place / "tables").exists()
