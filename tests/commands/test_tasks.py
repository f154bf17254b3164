"""Guidance and image tasks from the command line, on runs of digits that take seconds."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_cli.config.launch import launch
from ddpm_cli.errors import DataError
from ddpm_cli.sampling.inputs import mask_of

from ..conftest import TINY, Cli, Result

QUIET = ["trainer.sample_every=0", "trainer.eval_every=0", "logger=none", "trainer.steps=3", "optimizer.lr=0.02"]
QUICK = ["sampler.steps=4", "precision=fp32"]
CLASSIFIER = ["guidance=classifier", "guidance.classifier=noisy"]
RUNS = {
    "run": ["model=unet_tiny"],
    "plain": ["model=unet_tiny", "model.class_conditional=false"],
    "sure": ["model=unet_tiny", "objective.label_dropout=0"],
    "edm": ["model=unet_tiny", "schedule=edm", "objective=edm"],
    "noisy": ["model=unet_classifier", "schedule=linear"],
    "clean": ["model=unet_classifier", "objective.noisy=false"],
    "other": ["model=unet_classifier", "schedule=sigmoid"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, trained once for all tests here, which only read them."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["ddpm"])
        for name, arguments in RUNS.items():
            schedule = [] if any("schedule" in a for a in arguments) else ["schedule=linear"]
            assert launch("train", [f"run_dir={name}", *arguments, *schedule, *TINY, *QUIET]) == 0
    return folder


@pytest.fixture
def ddpm(cli: Cli, runs: Path, tmp_path: Path) -> Callable[..., Result]:
    """ddpm("sample", "ckpt=run", ...) in a folder with the runs, two pictures and a mask."""
    for name in RUNS:
        (tmp_path / name).symlink_to(runs / name)
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp.T.copy()).save(tmp_path / "b.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask[:, :8]).save(tmp_path / "narrow.png")
    Image.new("L", (8, 8), 0).save(tmp_path / "black.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "white.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    return cli


def images(folder: Path) -> np.ndarray:
    return np.load(folder / "samples.npz")["arr_0"].astype(int)


def facts(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "sample.json").read_text())
    return content


def good(result: Result) -> None:
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["guidance=cfg", "guidance.scale=3", "label=3"],
        [*CLASSIFIER, "label=3"],
        ["guidance=classifier", "guidance.classifier=clean", "label=3"],
        ["init=a.png"],
        ["init=a.png", "mask=mask.png", "resample=2", "jump=2"],
        ["between=[3,17]", "label=1"],
        ["between=[a.png,b.png]", "sampler.eta=1"],
    ],
    ids=lambda a: a[0],
)
def test_an_image_does_not_depend_on_the_batch(arguments: list[str], ddpm: Cli, tmp_path: Path) -> None:
    for name, size in (("a", 5), ("b", 2)):
        good(ddpm("sample", "ckpt=run", "n=5", f"batch_size={size}", f"out={name}", *arguments, *QUICK))
    a, b = images(tmp_path / "a"), images(tmp_path / "b")
    assert np.abs(a - b).max() <= 1 and np.abs(a[0] - a[4]).max() > 1


@pytest.mark.parametrize("classifier", ["noisy", "clean"])
def test_a_classifier_guides_and_is_evaluated_in_bf16(classifier: str, ddpm: Cli, tmp_path: Path) -> None:
    low = ["precision=bf16", "device=cpu"]
    guide = ["guidance=classifier", f"guidance.classifier={classifier}", "label=3"]
    good(ddpm("sample", "ckpt=run", "n=2", "out=s", "sampler.steps=4", *guide, *low))
    assert len(images(tmp_path / "s")) == 2
    good(ddpm("eval", f"ckpt={classifier}", "n=20", "out=e", *low))


def test_a_higher_scale_guides_more_strongly(ddpm: Cli, tmp_path: Path) -> None:
    for scale in (1, 10, 100):
        arguments = ["n=3", "label=3", "guidance=cfg", f"guidance.scale={scale}", f"out=s{scale}"]
        good(ddpm("sample", "ckpt=run", *arguments, *QUICK))
    good(ddpm("sample", "ckpt=run", "n=3", "label=3", "out=none", *QUICK))
    changes = [np.abs(images(tmp_path / f"s{s}") - images(tmp_path / "none")).mean() for s in (1, 10, 100)]
    assert changes[0] == 0 < changes[1] < changes[2]
    assert facts(tmp_path / "s10")["guidance"] == {"name": "cfg", "scale": 10, "interval": [0.0, 1.0]}
    assert facts(tmp_path / "none")["guidance"] == {"name": "none"}


def test_a_classifier_guides_an_unconditional_model_to_classes(ddpm: Cli, tmp_path: Path) -> None:
    good(ddpm("sample", "ckpt=plain", "n=4", "labels=[2,7]", "out=s", "guidance.scale=20", *CLASSIFIER, *QUICK))
    good(ddpm("sample", "ckpt=plain", "n=4", "out=none", *QUICK))
    assert np.load(tmp_path / "s/samples.npz")["arr_1"].tolist() == [2, 7, 2, 7]
    assert "arr_1" not in np.load(tmp_path / "none/samples.npz")
    assert np.abs(images(tmp_path / "s") - images(tmp_path / "none")).max() > 1
    guidance = facts(tmp_path / "s")["guidance"]
    assert isinstance(guidance, dict)
    assert (guidance["name"], guidance["scale"], guidance["reads"]) == ("classifier", 20, "noisy")


def test_a_picture_without_a_label_is_said_to_have_no_class(ddpm: Cli) -> None:
    line = "drawn without a class and without guidance; label=CLASS sets one: 0, 1, 2, "
    for arguments, said in ((["init=a.png"], True), (["init=a.png", "label=4"], False), ([], False)):
        assert (line in ddpm("sample", "ckpt=run", "n=2", f"out={len(arguments)}", *arguments, *QUICK).err) == said


def test_variations(ddpm: Cli, tmp_path: Path) -> None:
    for strength in (0.01, 0.9, 1.0):
        good(
            ddpm(
                "sample",
                "ckpt=run",
                "n=3",
                "init=a.png",
                f"strength={strength}",
                f"out=v{strength}",
                "sampler.steps=50",
                "label=4",
            )
        )
    good(ddpm("sample", "ckpt=run", "n=3", "label=4", "out=noise", "sampler.steps=50"))
    given = np.asarray(Image.open(tmp_path / "a.png")).astype(int)[..., None]
    near, far, full = (np.abs(images(tmp_path / f"v{s}") - given).mean() for s in (0.01, 0.9, 1.0))
    assert near < 0.3 * far and far > 5 and full > 5
    assert np.array_equal(images(tmp_path / "v1.0"), images(tmp_path / "noise"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "v0.9/input.png")), given[..., 0])
    content = facts(tmp_path / "v0.9")
    assert content["task"] == {"name": "variation", "init": "a.png", "strength": 0.9} and content["steps"] == 45


def test_inpainting_keeps_the_black_part_of_the_mask(ddpm: Cli, tmp_path: Path) -> None:
    good(ddpm("sample", "ckpt=run", "n=3", "init=a.png", "mask=mask.png", "resample=3", "jump=2", "out=s", *QUICK))
    given = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    drawn = images(tmp_path / "s")[..., 0]
    assert (drawn[:, :4] == given[:4]).all() and (drawn[:, 4:] != given[4:]).any((1, 2)).all()
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "grid.png", "images", "input.png", "masked.png", "sample.json", "samples.npz",
    ]  # fmt: skip
    content = facts(tmp_path / "s")
    assert content["network_calls"] == 4 + 1 * 2 * 2 and content["labels"] is None
    assert len(list((tmp_path / "s/images").iterdir())) == 3
    good(ddpm("sample", "ckpt=run", "n=2", "out=s", *QUICK))  # the pictures of the old task are removed
    assert not (tmp_path / "s/masked.png").exists()


def test_interpolation_between_seeds_starts_and_ends_at_their_samples(ddpm: Cli, tmp_path: Path) -> None:
    good(ddpm("sample", "ckpt=run", "n=2", "between=[3,17]", "label=1", "out=between", "sampler.eta=1", *QUICK))
    for seed in (3, 17):
        good(ddpm("sample", "ckpt=run", "n=2", f"seed={seed}", "label=1", f"out=s{seed}", "sampler.eta=1", *QUICK))
    between = images(tmp_path / "between")
    assert np.abs(between[0] - images(tmp_path / "s3")[0]).max() <= 1
    assert np.abs(between[1] - images(tmp_path / "s17")[0]).max() <= 1
    assert facts(tmp_path / "between")["task"] == {"name": "between_seeds", "between": [3, 17]}


def test_between_pictures(ddpm: Cli, tmp_path: Path) -> None:
    good(ddpm("sample", "ckpt=edm", "n=4", "between=[a.png,b.png]", "strength=0.2", "out=s", *QUICK))
    between = images(tmp_path / "s")[..., 0]
    ends = [np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in "ab"]
    nearer_to_a = [np.abs(between[i] - ends[0]).mean() < np.abs(between[i] - ends[1]).mean() for i in (0, 3)]
    assert nearer_to_a == [True, False]
    assert (tmp_path / "s/input.png").is_file() and (tmp_path / "s/input_other.png").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ["kind=denoise", "init=a.png", "mask=mask.png", "resample=2", "jump=2"],
        ["kind=denoise", "init=a.png", "guidance=cfg"],
        ["kind=denoise", "between=[a.png,b.png]"],
        ["kind=denoise", "ckpt=edm"],
        ["kind=forward", "ckpt=edm"],
    ],
    ids=" ".join,
)
def test_gif_of_a_task(arguments: list[str], ddpm: Cli, tmp_path: Path) -> None:
    ckpt = [] if any("ckpt" in a for a in arguments) else ["ckpt=run"]
    good(ddpm("gif", *ckpt, "n=3", "frames=5", "out=c.gif", *arguments, *QUICK))
    assert 2 < Image.open(tmp_path / "c.gif").n_frames <= 5


@pytest.mark.parametrize("ends", ["[3,17]", "[a.png,b.png]"])
def test_gif_of_an_interpolation_goes_forth_and_back(ends: str, ddpm: Cli, tmp_path: Path) -> None:
    good(ddpm("gif", "ckpt=run", "kind=interpolate", f"between={ends}", "n=2", "frames=6", "out=c.gif", *QUICK))
    animation = Image.open(tmp_path / "c.gif")
    frames = []
    for i in range(animation.n_frames):
        animation.seek(i)
        frames.append(np.asarray(animation.convert("L")).astype(int))
    assert len(frames) == 6
    assert np.array_equal(frames[1], frames[5]) and np.array_equal(frames[2], frames[4])
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert min(steps) > 0 and max(steps) < 6 * min(steps)  # no jumps, including from the last frame to the first


WRONG = {
    "init=a.png between=[3,17]": (2, "between: cannot be combined with init or mask"),
    "mask=mask.png": (2, "mask: needs a picture"),
    "strength=0.5": (2, "strength: only for init=PATH without a mask"),
    "init=a.png mask=mask.png strength=0.5": (2, "strength: only for init=PATH without a mask"),
    "between=[3,17] label=1 strength=0.5": (2, "strength: only for init=PATH without a mask"),
    "init=a.png strength=0": (2, "strength: must be above 0"),
    "init=a.png resample=3": (2, "resample: only for init=PATH mask=PATH"),
    "init=a.png mask=mask.png jump=0": (2, "jump: must be at least 1"),
    "between=[3]": (2, "between: must be two"),
    "between=[3,a.png]": (2, "between: must be two"),
    "between=[-1,4]": (2, "between: seeds must be at least 0"),
    "between=[3,17]": (2, "label: an interpolation needs a class"),
    "between=[3,17] labels=[1,2]": (2, "labels: an interpolation has a single class"),
    "between=[3,17] label=1 n=1": (2, "n: an interpolation needs at least 2 images"),
    "init=gone.png": (3, "init: there is no file gone.png"),
    "init=broken.png": (3, "init: broken.png is not a readable picture"),
    "between=[a.png,gone.png]": (3, "between: there is no file gone.png"),
    "init=a.png mask=gone.png": (3, "mask: there is no file gone.png"),
    "init=a.png mask=broken.png": (3, "mask: broken.png is not a readable picture"),
    "init=a.png mask=narrow.png": (3, "mask: narrow.png is 8x16, but init is 8x8"),
    "init=a.png mask=black.png": (3, "mask: black.png has no white"),
    "init=a.png mask=white.png": (3, "mask: white.png is completely white"),
    "ckpt=plain guidance=cfg": (2, "guidance: cfg needs a class-conditional model"),
    "ckpt=sure guidance=cfg": (2, "guidance: this model was trained without label dropout"),
    "guidance=cfg guidance.interval=[0.5,2]": (2, "guidance.interval: must be"),
    "guidance=cfg guidance.scale=nan": (2, "guidance.scale: must be a finite number"),
    "between=[3,17] label=1 seed=4": (2, "seed: not used with between=[SEED,SEED]"),
    "guidance=classifier": (2, "guidance.classifier: is required"),
    "guidance=classifier guidance.classifier=run": (4, "step_00000003.safetensors: is not a classifier"),
    "guidance=classifier guidance.classifier=gone": (4, "gone"),
    "guidance=classifier guidance.classifier=other": (2, "guidance.classifier: was trained with another noise"),
    "guidance=classifier guidance.classifier=noisy guidance.reads=clean": (2, "guidance.reads: this classifier"),
    "guidance=classifier guidance.classifier=noisy guidance.interval=[2,3]": (2, "guidance.interval: must be"),
    "guidance=classifier guidance.classifier=noisy guidance.scale=big": (2, "guidance.scale: must be a number"),
    "ckpt=noisy": (4, "step_00000003.safetensors: is a classifier"),
    "ckpt=plain label=1": (2, "label: this model is not class-conditional"),
    "sampler.steps=2000": (2, "sampler.steps: must be between"),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_requests_are_a_one_line_error(arguments: str, ddpm: Cli, tmp_path: Path) -> None:
    code, message = WRONG[arguments]
    result = ddpm("sample", "ckpt=run", "out=s", "sampler.steps=4", *arguments.split())
    assert (result.code, result.err.count("\n")) == (code, 1), result.err
    assert result.err.startswith("ddpm: error: ") and message in result.err and re.search("; |, got ", result.err)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("kind=forward init=a.png", "kind: forward takes no"),
        ("kind=interpolate", "kind: interpolate needs two ends"),
        ("kind=interpolate between=[3,17] frames=1", "frames: interpolate needs"),
    ],
)
def test_gif_kinds_that_do_not_fit_the_request(arguments: str, message: str, ddpm: Cli) -> None:
    result = ddpm("gif", "ckpt=run", "out=s", *arguments.split())
    assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_a_mask_repaints_every_pixel_that_it_touches(tmp_path: Path) -> None:
    """A stroke thinner than a pixel of the model, in 8 and 16 bits and in 0..1; and a dark grey, which is not white."""
    Image.new("L", (64, 64)).save(tmp_path / "init.png")
    stroke = np.zeros((64, 64))
    stroke[:, 9:12] = 1
    stroke[0, 60] = 1
    Image.fromarray((stroke * 255).astype(np.uint8)).save(tmp_path / "byte.png")
    Image.fromarray((stroke * 65535).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(stroke.astype(np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray((stroke * 254 + 1000).astype(np.uint16)).save(tmp_path / "dark.png")
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:, 1] = True
    expected[0, 7] = True
    for name in ("byte.png", "deep.png", "float.tiff"):
        assert torch.equal(mask_of(str(tmp_path / name), str(tmp_path / "init.png"), (1, 8, 8))[0, 0], expected), name
    with pytest.raises(DataError, match="has no white"):
        mask_of(str(tmp_path / "dark.png"), str(tmp_path / "init.png"), (1, 8, 8))
