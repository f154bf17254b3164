"""A run and its data: what changed, what is refused, and runs that start from the weights of others."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ddpm_cli.data.facts import held_out
from ddpm_cli.data.image_folder import ImageFolder

from ..conftest import TINY, Cli

S = [
    "dataset=image_folder", "model=unet_tiny", "model.channels=8", "dataset.size=8", "trainer=quick", "logger=none",
    "trainer.batch_size=8", "trainer.sample_every=0",
]  # fmt: skip


def mk(folder: Path, colour: str, n: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + n):
        Image.new("RGB", (8, 8), colour).save(folder / f"{i:03}.png")
        with Image.open(folder / f"{i:03}.png") as image:
            image.putpixel((i % 8, i // 8 % 8), (i % 256, 1, 2))
            image.save(folder / f"{i:03}.png")


def source(root: Path) -> ImageFolder:
    return ImageFolder(root=str(root), size=8, split_rule="path", classes=0)


def held(root: Path) -> set[bytes]:
    return {bytes(p.numpy().tobytes()) for p in source(root).load("val").pixels}


def test_an_added_picture_moves_no_other(tmp_path: Path) -> None:
    mk(tmp_path / "d", "red", 100)
    before, trained = held(tmp_path / "d"), source(tmp_path / "d").load("train")
    mk(tmp_path / "d", "red", 60, first=100)
    mk(tmp_path / "d", "red", 7, first=-9)  # their names come first
    after = held(tmp_path / "d")
    assert before <= after and len(before) >= 2
    now = {bytes(p.numpy().tobytes()) for p in source(tmp_path / "d").load("train").pixels}
    assert {bytes(p.numpy().tobytes()) for p in trained.pixels} <= now


def test_the_share_and_its_exceptions() -> None:
    names = [f"c/{i}.png" for i in range(5000)]
    assert 0.045 < sum(held_out(names, [0] * 5000, 0.05)) / 5000 < 0.055
    assert held_out(["a"], [0], 0.9) == [False]
    assert sum(held_out(["a", "b"], [0, 0], 0.001)) == 1 and sum(held_out(["a", "b"], [0, 0], 0.999)) == 1
    assert held_out(["a", "b", "c"], [0, 1, 2], 0.999) == [False] * 3  # each is the only one of its class
    assert held_out(["a", "b"], [0, 0], 0.0) == [False, False]
    assert held_out(["e\u0301"], [0], 0.5) == held_out(["\xe9"], [0], 0.5)


def test_classes_that_changed_are_refused_with_both_lists(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d/apple", "red", 8)
    mk(tmp_path / "d/pear", "lime", 8)
    arguments = [*S, "dataset.root=d", "run_dir=r"]
    assert cli("train", *arguments, "trainer.steps=2").code == 0
    (tmp_path / "d/apple").rename(tmp_path / "d/zapple")
    refused = cli("train", *arguments, "trainer.steps=4")
    assert refused.code == 2 and "the classes are [pear, zapple]" in refused.err and "[apple, pear]" in refused.err
    mk(tmp_path / "d/apple", "red", 8)
    refused = cli("train", *arguments, "trainer.steps=4")
    assert refused.code == 2 and "[apple, pear, zapple]" in refused.err
    result = cli("train", *S, "dataset.root=d", "run_dir=new", "finetune=r", "trainer.steps=1")
    assert result.code == 0 and "new classes, which start from scratch: zapple" in result.err


def test_without_classes_renaming_is_only_said(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d/apple", "red", 8)
    mk(tmp_path / "d/pear", "lime", 8)
    arguments = [*S, "dataset.root=d", "run_dir=r", "model.class_conditional=false"]
    first = cli("train", *arguments, "trainer.steps=2")
    assert first.code == 0 and "the 2 classes are not learned; model.class_conditional=true learns them" in first.err
    (tmp_path / "d/apple").rename(tmp_path / "d/zapple")
    result = cli("train", *arguments, "trainer.steps=4")
    assert result.code == 0 and "8 added, 8 removed, 0 edited" in result.err


def test_what_changed_is_said_and_the_best_checkpoint_starts_over(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", "red", 60)
    arguments = [*S, "dataset.root=d", "run_dir=r", "trainer.eval_every=2", "trainer.best_by=val_loss"]
    assert cli("train", *arguments, "trainer.steps=2").code == 0
    assert "the pictures have changed" not in cli("train", *arguments, "trainer.steps=4").err
    mk(tmp_path / "d", "blue", 2, first=200)
    (tmp_path / "d/000.png").unlink()
    Image.new("RGB", (8, 8), "black").save(tmp_path / "d/001.png")
    result = cli("train", *arguments, "trainer.steps=6")
    assert result.code == 0 and "2 added, 1 removed, 1 edited (61 pictures)" in result.err, result.err
    assert json.loads((tmp_path / "r/checkpoints/step_00000006.json").read_text())["best"]["step"] == 6


def test_a_copy_of_a_run_has_a_best_checkpoint_of_its_own(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "easy", "red", 40)
    mk(tmp_path / "hard", "blue", 50)
    best = ["trainer.eval_every=5", "trainer.best_by=val_loss"]
    assert cli("train", *S, "dataset.root=easy", "run_dir=old", "trainer.steps=20", *best).code == 0
    result = cli("train", *S, "dataset.root=hard", "run_dir=new", "resume=old", "trainer.steps=30", *best)
    assert result.code == 0 and "the pictures have changed since step 20 of old" in result.err
    step = json.loads((tmp_path / "new/checkpoints/step_00000030.json").read_text())["best"]["step"]
    assert step in (25, 30) and (tmp_path / f"new/checkpoints/step_{step:08}.safetensors").exists()


def test_finetuning_is_a_new_run_with_the_weights_of_another(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", "red", 20)
    assert cli("train", *S, "dataset.root=d", "run_dir=old", "trainer.steps=5").code == 0
    refused = cli("train", *S, "dataset.root=d", "run_dir=new", "resume=old", "trainer.steps=5")
    assert refused.code == 2 and "finetune instead of resume" in refused.err and not (tmp_path / "new").exists()
    plain = [a for a in S if not a.startswith("model")]
    result = cli(
        "train", *plain, "dataset.root=d", "run_dir=new", "finetune=old", "trainer.steps=1", "optimizer.lr=1e-9"
    )
    assert result.code == 0 and re.search(r"finetune: (\d+) of \1 tensors", result.err), result.err
    old, new = (
        load_file(tmp_path / f"{r}/checkpoints/step_0000000{n}.safetensors") for r, n in (("old", 5), ("new", 1))
    )
    names = [name for name in old if name.startswith("model.")]
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in names)
    manifest = json.loads((tmp_path / "new/checkpoints/step_00000001.json").read_text())
    assert manifest["step"] == 1 and manifest["best"] == {} and manifest["config"]["model"]["channels"] == 8
    assert "was trained on" not in result.err
    digits = cli("train", "run_dir=digits", "finetune=old", "trainer.steps=1", "trainer.batch_size=4", "logger=none")
    assert digits.code == 0 and re.search(
        r"warning: finetune: old/\S+ was trained on \S+ in d, but this run learns digits, as dataset is not set",
        digits.err,
    )
    again = cli(
        "train", *plain, "dataset.root=d", "run_dir=new", "finetune=old", "trainer.steps=2", "optimizer.lr=1e-9"
    )
    assert again.code == 0 and "resuming from step 1" in again.err and "finetune: ignored" in again.err


def test_finetuning_fits_another_size_and_other_channels(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", "red", 20)
    assert cli("train", *S, "dataset.root=d", "run_dir=old", "trainer.steps=2").code == 0
    other = [a for a in S if not a.startswith("dataset.size")]
    new = ["dataset.size=16", "dataset.channels=1", "dataset.root=d", "run_dir=new", "finetune=old", "trainer.steps=1"]
    result = cli("train", *other, *new)
    assert result.code == 0 and "conv_in.weight" in result.err and "of another shape" in result.err, result.err
    nothing = cli("train", *S, "model.channels=16", "dataset.root=d", "run_dir=no", "finetune=old", "trainer.steps=1")
    assert nothing.code in (0, 4)


def test_a_learning_rate_that_rises_again_is_said(cli: Cli, tmp_path: Path) -> None:
    mk(tmp_path / "d", "red", 40)
    arguments = [
        *S,
        "dataset.root=d",
        "run_dir=r",
        "trainer.lr_decay=cosine",
        "trainer.epochs=4",
        "trainer.warmup_steps=0",
    ]
    assert cli("train", *arguments).code == 0
    mk(tmp_path / "d", "red", 40, first=40)
    result = cli("train", *arguments)
    assert result.code == 0 and "the learning rate rises from" in result.err, result.err


@pytest.mark.parametrize("names", [("1", "2", "3"), ("cat", "dog", "owl"), tuple(map(str, range(11)))])
def test_a_label_is_a_name_first(names: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    for name in names:
        mk(tmp_path / "d" / name, "red", 2)
    assert cli("train", *S, "dataset.root=d", "run_dir=r", "trainer.steps=1").code == 0
    classes = sorted(names)

    def drawn(label: str) -> str:
        result = cli("sample", "ckpt=r", "n=1", f"label={label}", "out=s", "sampler.steps=1")
        return json.loads((tmp_path / "s/sample.json").read_text())["classes"][0] if result.code == 0 else result.err

    for name in names:
        assert drawn(name) == name
    for i, name in enumerate(classes):
        assert drawn(f"#{i}") == name
    assert drawn("1") == ("dog" if "dog" in names else "1")
    assert "there is no class '007'" in drawn("007") or "there is no class 007" in drawn("007")


@pytest.mark.parametrize(
    ("rule", "warned"), [("split_rule=shuffle", True), ("split_seed=1", True), ("split_rule=path", False)]
)
def test_an_evaluation_warns_if_held_out_pictures_were_trained_on(
    rule: str, warned: bool, cli: Cli, tmp_path: Path
) -> None:
    mk(tmp_path / "d", "red", 60)
    data = ["dataset.root=d", f"dataset.{rule}", "dataset.val_fraction=0.1"]
    assert cli("train", *S, *data, "trainer.steps=1", "run_dir=r").code == 0
    measure = ["ckpt=r", "metrics=[bpd]", "bpd.steps=2", "bpd.ode_steps=0", "n=4"]
    assert "moves pictures" not in cli("eval", *measure, "out=a").err
    mk(tmp_path / "d", "red", 20, first=60)
    grown = cli("eval", *measure, "out=b")
    assert grown.code == 0 and ("moves pictures when their number changes" in grown.err) == warned, grown.err


@pytest.mark.parametrize(
    "key",
    [
        "dataset.split_seed=99999999",
        "trainer.keep_last=99999999999",
        "trainer.save_every=99999999999",
        "trainer.eval_images=99999999999",
        "trainer.warmup_steps=99999999999",
        "seed=4000000000000000000",
    ],
)
def test_what_is_trained_can_be_opened(key: str, cli: Cli) -> None:
    run = ["train", "run_dir=r", "trainer.steps=1", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none"]
    assert cli(*run, *TINY, key).code == 0
    assert cli("sample", "ckpt=r", "n=1", "sampler.steps=1", "out=o").code == 0
    assert cli("verify", "r").code == 0


def test_wide_values_of_pictures_can_be_opened(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for i in range(6):
        values = np.random.default_rng(i).integers(0, 2**31 - 1, (8, 8)).astype(np.int32)
        Image.fromarray(values).save(tmp_path / f"d/{i}.tif")
    run = ["train", "run_dir=r", "dataset=image_folder", "dataset.root=d", "dataset.size=8", "trainer.steps=1", *TINY]
    assert cli(*run, "dataset.range=[0,4294967295]", "model=unet_tiny", "trainer.sample_every=0").code == 0
    assert cli("sample", "ckpt=r", "n=1", "sampler.steps=1", "out=o").code == 0


@pytest.mark.parametrize("model", ["unet_tiny", "resnet"])
def test_what_could_not_be_opened_is_not_trained(model: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "run_dir=r", f"model={model}", "model.num_classes=12", "trainer.steps=1", "logger=none")
    assert result.code == 2 and "10 names of classes, but a network for 12" in result.err, result.err
    assert not (tmp_path / "r").exists()


def test_finetuning_keeps_the_guidance_and_says_another_size(cli: Cli, tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        mk(tmp_path / "d", colour, 10)
        (tmp_path / "d" / colour).mkdir()
        for path in (tmp_path / "d").glob("*.png"):
            path.rename(tmp_path / "d" / colour / path.name)
    guided = ["guidance=cfg", "guidance.scale=4.5", "objective.label_dropout=0.1"]
    assert cli("train", *S, *guided, "dataset.root=d", "run_dir=old", "trainer.steps=2").code == 0
    new = [a for a in S if not a.startswith(("model", "dataset.size"))]
    result = cli("train", *new, "dataset.root=d", "run_dir=new", "finetune=old", "trainer.steps=1")
    assert result.code == 0, result.err
    assert re.search(r"finetune: dataset.size is \d+; in old/\S+ it is 8", result.err), result.err
    guidance = json.loads((tmp_path / "new/config.json").read_text())["guidance"]
    assert guidance["scale"] == 4.5 and guidance["_target_"].endswith("ClassifierFree")
