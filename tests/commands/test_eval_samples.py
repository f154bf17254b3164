"""ddpm eval of samples against real digits, in the features of a classifier, and of the classifier itself."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.config.launch import launch
from ddpm_cli.data.digits import Digits
from ddpm_cli.data.images import Images
from ddpm_cli.evaluation import extractor

from ..conftest import TINY, Cli

QUIET = ["trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "trainer.steps=30", "optimizer.lr=0.01"]
CLASSIFIER = ["model=unet_classifier", "objective.noisy=false", "model.channels=16", "trainer.batch_size=32"]
QUICK = ["sampler.steps=3", "resamples=4", "batch_size=100"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: generator, free (not class-conditional), clf (a classifier of clean images), noisy (of noisy images)."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", list(sys.argv))
        tiny = [*TINY, *QUIET]
        assert launch("train", ["run_dir=generator", *tiny]) == 0
        assert launch("train", ["run_dir=free", *tiny, "model.class_conditional=false", "trainer.steps=2"]) == 0
        clf = [*tiny, *CLASSIFIER, "trainer.steps=90"]
        assert launch("train", ["run_dir=clf", *clf]) == 0
        assert launch("train", ["run_dir=noisy", *clf, "objective.noisy=true", "trainer.steps=2"]) == 0
    return folder


@pytest.fixture(scope="module")
def digits() -> dict[str, Images]:
    return {"train": Digits().load("train"), "val": Digits().load("val")}


def npz(path: Path, images: Images, labels: bool = True) -> str:
    arrays = [images.pixels.permute(0, 2, 3, 1).numpy(), *([images.labels.numpy()] if labels else [])]
    np.savez(path, *arrays)
    return f"samples={path}"


def evaluated(cli: Cli, folder: Path, *arguments: str) -> dict[str, Any]:
    result = cli("eval", f"out={folder}", *QUICK, *arguments)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    return found


def values(facts: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in facts["figures"].items()}


def test_a_generator_in_the_features_of_a_classifier(runs: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "e"
    facts = evaluated(cli, out, f"ckpt={runs}/generator", f"features={runs}/clf", "n=60", "tensorboard=true")
    assert {p.name for p in out.iterdir()} == {"eval.json", "pairs.png", "samples.png", "tensorboard"}
    figures = facts["figures"]
    assert {"fd", "kd", "precision", "recall", "confidence", "seen as asked"} <= set(figures)
    assert all(figure["spread"] is not None and "real" in figure for figure in figures.values())
    sha = {name: manifest(runs / name)["sha256"] for name in ("generator", "clf")}
    protocol = figures["fd"]["protocol"]
    assert protocol["extractor"] == f"classifier {sha['clf']}" and protocol["checkpoint"] == sha["generator"]
    assert (protocol["n"], protocol["n_real"], protocol["split"], protocol["resize"]) == (60, 180, "val", "none")
    assert (protocol["sampler"]["name"], protocol["steps"], protocol["network_calls"]) == ("ddim", 3, 3)
    assert (protocol["seeds"], protocol["guidance"]["name"]) == ("0-59", "none")
    assert figures["precision"]["protocol"]["settings"] == {"neighbours": 3}
    assert values(facts)["fd"] > 3 * figures["fd"]["real"]  # after thirty steps, samples are far from real digits
    for name in ("pairs.png", "samples.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 500 and len(picture.convert("L").getcolors() or []) > 10
    assert scalar_names(out / "tensorboard") >= {"eval/fd", "eval/seen_as_asked"}


def scalar_names(folder: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sorted((run / "checkpoints").glob("*.json"))[-1].read_text())
    return found


def test_real_images_as_samples_are_perfect(runs: Path, digits: dict[str, Images], cli: Cli, tmp_path: Path) -> None:
    same = npz(tmp_path / "same.npz", digits["val"])
    facts = evaluated(cli, tmp_path / "e", same, f"features={runs}/clf")
    found = values(facts)
    assert found["fd"] == pytest.approx(0, abs=1e-3)
    assert found["precision"] == found["recall"] == 1
    assert facts["figures"]["seen as asked"]["real"] == found["seen as asked"] > 0.7
    assert facts["memorisation"]["ratio_of_medians"] == pytest.approx(1)
    protocol = facts["figures"]["fd"]["protocol"]
    assert protocol["sampler"] == protocol["checkpoint"] == protocol["seeds"] == "unknown"
    assert facts["protocol"]["model"] is None and len(facts["protocol"]["samples"]["samples_sha256"]) == 64
    answers = facts["classes"]["answers"]
    assert sum(answers) == 180 and set(facts["classes"]["seen_as_asked"]) == set("0123456789")


def test_fd_of_too_few_images_has_a_note_on_its_bias(runs: Path, cli: Cli, tmp_path: Path) -> None:
    arguments = [f"ckpt={runs}/generator", f"features={runs}/clf", "metrics=[fd]", *QUICK]
    for n, real, too_few in ((8, "null", "8 samples"), (80, 9, "9 real images"), (80, "null", None)):
        result = cli("eval", f"out={tmp_path / f'{n}_{real}'}", *arguments, f"n={n}", f"real={real}")
        assert result.code == 0, result.err
        out = " ".join(result.out.split())
        assert ("biased upwards" in out) == (too_few is not None)
        assert too_few is None or f"fd is biased upwards: {too_few} are too few for" in out


def test_copies_of_training_images_are_found(runs: Path, digits: dict[str, Images], cli: Cli, tmp_path: Path) -> None:
    mixed = Images(
        torch.cat([digits["train"].pixels[:30], digits["val"].pixels[:30]]),
        torch.cat([digits["train"].labels[:30], digits["val"].labels[:30]]),
        digits["val"].class_names,
    )
    given = npz(tmp_path / "mixed.npz", mixed)
    facts = evaluated(cli, tmp_path / "e", given, f"ckpt={runs}/generator")  # without features, memorisation remains
    assert set(facts["figures"]) == {"distance to training, median", "closer than closest 1%"}
    share = facts["figures"]["closer than closest 1%"]
    assert 0.5 <= share["value"] < 0.55 and share["real"] < 0.02
    assert share["protocol"]["extractor"] == "pixels" and facts["memorisation"]["samples"]["10%"] == 0


def test_a_folder_of_ddpm_sample_keeps_its_protocol(runs: Path, cli: Cli, tmp_path: Path) -> None:
    assert (
        cli("sample", f"ckpt={runs}/generator", "n=40", "seed=7", "out=s", "sampler.steps=3", "precision=fp32").code
        == 0
    )
    drawn = evaluated(
        cli, tmp_path / "a", f"ckpt={runs}/generator", f"features={runs}/clf", "n=40", "seed=7", "metrics=[fd,kd]"
    )
    read = evaluated(cli, tmp_path / "b", "samples=s", f"features={runs}/clf", "seed=7", "metrics=[fd,kd]")
    few = evaluated(cli, tmp_path / "c", "samples=s", f"features={runs}/clf", "n=10", "metrics=[fd]")
    assert values(read) == pytest.approx(values(drawn), rel=1e-4)
    protocols = [f["figures"]["fd"]["protocol"] for f in (drawn, read)]
    same = ("checkpoint", "precision", "seeds", "steps", "guidance", "n", "extractor", "real_sha256")
    assert all(protocols[0][name] == protocols[1][name] for name in same)
    assert protocols[1]["seeds"] == "7-46" and few["figures"]["fd"]["protocol"]["seeds"] == "7-16"
    np.savez(tmp_path / "s/samples.npz", np.zeros((3, 8, 8, 1), np.uint8))  # sample.json no longer matches
    strange = evaluated(cli, tmp_path / "d", "samples=s", f"features={runs}/clf", "metrics=[fd]")
    assert strange["figures"]["fd"]["protocol"]["checkpoint"] == "unknown"


def test_cas_is_high_for_correct_labels_and_low_for_wrong_ones(
    runs: Path, digits: dict[str, Images], cli: Cli, tmp_path: Path
) -> None:
    train = digits["train"].subset(torch.arange(800))
    wrong = Images(train.pixels, (train.labels + 1) % 10, train.class_names)
    teach = [f"features={runs}/clf", "metrics=[cas]", "cas.steps=80"]
    good = evaluated(cli, tmp_path / "a", npz(tmp_path / "a.npz", train), *teach)["figures"]
    bad = evaluated(cli, tmp_path / "b", npz(tmp_path / "b.npz", wrong), *teach)["figures"]
    (good,), (bad,) = good.values(), bad.values()
    assert good["value"] > 0.7 > 0.2 > bad["value"]
    assert good["real"] == bad["real"] > 0.7 and good["protocol"]["settings"] == {"steps": 80}


def test_guidance_and_samples_without_classes(runs: Path, cli: Cli, tmp_path: Path) -> None:
    common = [f"features={runs}/clf", "n=20", "metrics=[classes]", "real=50"]
    free = evaluated(cli, tmp_path / "a", f"ckpt={runs}/free", *common)
    assert "seen as asked" not in free["figures"] and free["figures"]["confidence"]["protocol"]["n_real"] == 50
    guided = evaluated(
        cli, tmp_path / "b", f"ckpt={runs}/free", *common, "guidance=classifier", f"guidance.classifier={runs}/clf"
    )
    assert "seen as asked" in guided["figures"]
    assert guided["figures"]["confidence"]["protocol"]["guidance"]["reads"] == "clean"


def test_bits_and_samples_together(runs: Path, cli: Cli, tmp_path: Path) -> None:
    bits = ["bpd.steps=3", "bpd.ode_steps=0"]
    facts = evaluated(
        cli, tmp_path / "e", f"ckpt={runs}/generator", "n=12", "metrics=[bpd,memorisation,bpd]", "split=train", *bits
    )
    assert {"digest", "bits_per_dim", "per_time", "figures", "memorisation", "protocol"} == set(facts)
    assert {p.name for p in (tmp_path / "e").iterdir()} == {"bound.png", "eval.json", "pairs.png", "samples.png"}
    again = evaluated(cli, tmp_path / "e", f"ckpt={runs}/generator", "n=12", *bits)
    assert "figures" not in again  # without features the default is bpd, and the old files are gone
    assert {p.name for p in (tmp_path / "e").iterdir()} == {"bound.png", "eval.json"}
    assert again["protocol"]["model"] == "UNet"


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_classifier(weights: str, runs: Path, digits: dict[str, Images], cli: Cli, tmp_path: Path) -> None:
    facts = evaluated(cli, tmp_path / "e", f"ckpt={runs}/clf", f"weights={weights}")
    figure, detail = facts["figures"]["accuracy"], facts["accuracy"]
    matrix = torch.tensor(detail["confusion"])
    assert matrix.sum(1).tolist() == torch.bincount(digits["val"].labels, minlength=10).tolist()
    assert figure["value"] == pytest.approx(float(matrix.diagonal().sum() / matrix.sum())) and figure["value"] > 0.6
    assert detail["per_class"]["3"] == pytest.approx(float(matrix[3, 3] / matrix[3].sum()))
    assert facts["protocol"]["weights"] == weights and facts["protocol"]["n"] == 180
    for name in ("confusion.png", "mistakes.png"):
        with Image.open(tmp_path / "e" / name) as picture:
            assert picture.width > 500 and len(picture.convert("L").getcolors() or []) > 10


def test_a_classifier_of_noisy_images_is_evaluated_on_clean_images(runs: Path, cli: Cli, tmp_path: Path) -> None:
    facts = evaluated(cli, tmp_path / "e", f"ckpt={runs}/noisy", "n=50", "split=train")
    assert sum(map(sum, facts["accuracy"]["confusion"])) == 50


def test_wrong_inputs_are_a_one_line_error(runs: Path, digits: dict[str, Images], cli: Cli, tmp_path: Path) -> None:
    ckpt, features = f"ckpt={runs}/generator", f"features={runs}/clf"
    images = digits["val"].take(5)
    good, bare = npz(tmp_path / "good.npz", images), npz(tmp_path / "bare.npz", images, labels=False)
    (tmp_path / "text.npz").write_text("x")
    np.savez(tmp_path / "float.npz", np.zeros((3, 8, 8, 1)))
    np.savez(tmp_path / "big.npz", np.zeros((9, 16, 16, 1), np.uint8))
    np.savez(tmp_path / "class.npz", np.zeros((9, 8, 8, 1), np.uint8), np.full(9, 10))
    wrong = [
        (2, [ckpt, "metrics=[fd]"], "metrics: fd needs features; set features=RUN"),
        (2, [ckpt, "metrics=[accuracy]"], "metrics: accuracy needs a classifier; set ckpt=RUN of a classifier"),
        (2, [f"ckpt={runs}/clf", "metrics=[bpd]"], "metrics: bpd cannot be measured for a classifier"),
        (2, [f"ckpt={runs}/clf", features], "features: cannot be used with a classifier"),
        (2, [ckpt, f"features={runs}/noisy"], "was trained on noisy images; train one with objective.noisy=false"),
        (4, [ckpt, f"features={runs}/generator"], "is not a classifier"),
        (4, [ckpt, "features=nowhere"], "nowhere: does not exist"),
        (2, [ckpt, features, "n=1"], "n: fd needs at least 2 samples, got 1"),
        (2, [ckpt, features, "metrics=[pr]", "n=9", "real=3"], "real: pr needs at least 4 real images, got 3"),
        (2, [ckpt, features, "neighbours=0"], "neighbours: must be at least 1"),
        (2, [ckpt, features, "resamples=-1"], "resamples: must be at least 0"),
        (2, [ckpt, features, "cas.steps=0"], "cas.steps: must be at least 1"),
        (2, [ckpt, features, "n=many"], "n: must be"),
        (2, [ckpt, features, "sampler.steps=5000"], "sampler.steps: must be between"),
        (2, [f"ckpt={runs}/free", features, "guidance=cfg"], "guidance: cfg needs a class-conditional model"),
        (
            3,
            [f"ckpt={runs}/free", features, "metrics=[cas]", "n=9"],
            "metrics: cas needs samples with classes, these have none",
        ),
        (2, [good], "ckpt: required to find the dataset"),
        (2, [good, features, "metrics=[bpd]"], "metrics: bpd needs a model"),
        (3, [bare, features, "metrics=[cas]"], "metrics: cas needs samples with classes"),
        (3, ["samples=nowhere.npz", features], "samples: there is no nowhere.npz"),
        (3, ["samples=text.npz", features], "samples: text.npz cannot be read as npz"),
        (3, ["samples=float.npz", features], "samples: arr_0 of float.npz is float64 (3, 8, 8, 1); it must be uint8"),
        (3, ["samples=big.npz", features], "samples: have shape 1x16x16, but the real images 1x8x8"),
        (3, ["samples=class.npz", features], "samples: have class 10, but the classifier knows 0 to 9"),
    ]
    for code, arguments, message in wrong:
        result = cli("eval", "out=e", *arguments)
        assert result.code == code and message in result.err, (arguments, result.err)
        assert len(result.err.splitlines()) == 1 and not (tmp_path / "e").exists()


def test_inception_is_never_downloaded(runs: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["eval", f"ckpt={runs}/generator", "features=inception", "out=e"]
    monkeypatch.setattr(extractor, "find_spec", lambda name: None)
    assert "features: inception needs torch-fidelity" in (first := cli(*command)).err and first.code == 2
    monkeypatch.setattr(extractor, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert "features: the weights of Inception are missing at" in (second := cli(*command)).err and second.code == 2
    weights = tmp_path / "hub/checkpoints" / extractor.INCEPTION
    weights.parent.mkdir(parents=True)
    weights.write_text("not these")
    assert "is damaged or a different file" in (third := cli(*command)).err and third.code == 2


def test_classes_are_matched_by_name(cli: Cli, tmp_path: Path) -> None:
    """Two datasets with two classes each; one class is in both, at another index."""
    g = np.random.default_rng(0)
    for folder, names in (("a", ("cat", "dog")), ("b", ("ant", "cat"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(g.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / folder / name / f"{i}.png")
    sets = [
        "dataset=image_folder",
        "dataset.size=8",
        "dataset.channels=1",
        "dataset.val_fraction=0.5",
        "model=unet_tiny",
    ]
    quiet = [a for a in QUIET if "lr" not in a]
    assert cli("train", *sets, "dataset.root=a", "run_dir=generator", *TINY, *quiet, "trainer.steps=2").code == 0
    clf = [a for a in sets if "model" not in a] + CLASSIFIER[:2]
    assert cli("train", *clf, "dataset.root=b", "run_dir=clf", *TINY, *quiet, "trainer.steps=2").code == 0
    for metric in ("classes", "cas"):
        result = cli("eval", "ckpt=generator", "features=clf", f"metrics={metric}", "n=4", "sampler.steps=2", "out=e")
        assert result.code == 3 and "features: the classifier knows 2 (ant, cat, ...) classes" in result.err, result.err
    result = cli("eval", "ckpt=clf", "root=a", "out=e")
    assert result.code == 3 and "split: the images have 2 (cat, dog) classes" in result.err, result.err


def test_the_seed_does_not_change_the_set_of_all_real_images(runs: Path, cli: Cli, tmp_path: Path) -> None:
    drawn = [f"ckpt={runs}/generator", f"features={runs}/clf", "metrics=[fd]", "n=8"]
    one, other = (evaluated(cli, tmp_path / f"s{seed}", *drawn, f"seed={seed}") for seed in (0, 8))
    protocols = [facts["figures"]["fd"]["protocol"] for facts in (one, other)]
    assert protocols[0]["real_sha256"] == protocols[1]["real_sha256"]
    assert cli("table", "of=[s0,s8]").code == 0


@pytest.mark.parametrize(
    ("damage", "words"),
    [("a digit", "is damaged"), ("cut", "is damaged"), ("deleted", "is missing"), ("another", "is of other samples")],
)
def test_how_samples_were_drawn_is_not_taken_from_a_damaged_file(
    damage: str, words: str, cli: Cli, tmp_path: Path
) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0
    for seed in (0, 4):
        assert cli("sample", "ckpt=run", "n=4", "sampler.steps=2", f"seed={seed}", f"out=s{seed}").code == 0
    file = tmp_path / "s0/sample.json"
    if damage == "another":
        file.write_bytes((tmp_path / "s4/sample.json").read_bytes())
    elif damage == "deleted":
        file.unlink()
    else:
        raw = file.read_bytes()
        file.write_bytes(raw[:-9] if damage == "cut" else raw.replace(b'"steps": 2', b'"steps": 3'))
    result = cli("eval", "samples=s0", "ckpt=run", "metrics=[memorisation]", "resamples=0", "out=e")
    assert result.code == 0 and f"s0/sample.json {words}, so it is not known how they were drawn" in result.err
    figures = json.loads((tmp_path / "e/eval.json").read_text())["figures"]
    assert {figure["protocol"]["seeds"] for figure in figures.values()} == {"unknown"}


def test_a_changed_evaluation_is_not_shown(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "run_dir=run", "trainer.steps=1", "logger=none", "trainer.sample_every=0", *TINY).code == 0
    assert cli("eval", "ckpt=run", "n=4", "metrics=[memorisation]", "sampler.steps=2", "out=e").code == 0
    file = tmp_path / "e/eval.json"
    raw = file.read_bytes()
    at = raw.index(b'"value": ') + 9
    file.write_bytes(raw[:at] + b"9" + raw[at:])
    result = cli("table", "of=[e]")
    assert result.code == 3 and "e/eval.json: is damaged; run ddpm eval again" in result.err
