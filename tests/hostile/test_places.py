"""Paths, links, pipes and devices: nothing hangs, nothing outside is read into outputs or written."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Cli
from .conftest import JUDGED, OPENINGS
from .strangers import STEM, Stranger, check_answer

PASSWD = Path("/etc/passwd")
pytestmark = pytest.mark.skipif(os.name != "posix" or not PASSWD.is_file(), reason="links and pipes of POSIX")


def swap(path: Path, make: Callable[[Path], Any]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def circle(path: Path) -> None:
    other = path.with_name("other")
    path.symlink_to(other.name)
    other.symlink_to(path.name)


MADE: dict[str, Callable[[Path], Any]] = {
    "link to /etc/passwd": lambda path: path.symlink_to(PASSWD),
    "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "link to /dev/stdin": lambda path: path.symlink_to("/dev/stdin"),
    "link to /proc": lambda path: path.symlink_to("/proc/self/environ"),
    "link to /": lambda path: path.symlink_to("/"),
    "link to itself": loop,
    "links in a circle": circle,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "not readable": lambda path: (path.write_text("x"), path.chmod(0)),
    "empty": lambda path: path.write_bytes(b""),
    "hole of 1 TB": lambda path: (
        os.truncate(path.write_bytes(b"") * 0 or path, 2**40) if path.touch() is None else None
    ),
}
PARTS = ("checkpoints", f"checkpoints/{STEM}.json", f"checkpoints/{STEM}.safetensors", "config.json", "metrics.jsonl")


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_run(
    part: str, kind: str, guarded: Cli, stranger: Stranger, judge: Stranger, tmp_path: Path
) -> None:
    if kind == "hole of 1 TB" and part.endswith(".jsonl"):
        pytest.skip("a table reads all of its rows")
    for run in (stranger, judge):
        swap(run.folder / part, MADE[kind])
    arguments = [OPENINGS["sample"]] if part.startswith("checkpoints") else []
    for each in (*arguments, JUDGED["table"]):
        result = guarded(*each)
        check_answer(result)
        assert "root:x:0" not in result.out + result.err
    assert not [p for p in (tmp_path / "o").rglob("*") if p.is_file() and b"root:x:0" in p.read_bytes()]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("name", ["outputs/latest", "run", "e/eval.json", "s.npz", "p.png", "s/sample.json"])
def test_what_the_user_names(name: str, kind: str, guarded: Cli, tmp_path: Path) -> None:
    stranger = Stranger.of("digits", tmp_path / "kept")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    MADE[kind](path)
    arguments = {
        "latest": ("sample", "n=1", "out=o"),
        "run": OPENINGS["sample"],
        "eval.json": ("table", "of=e"),
        "s.npz": ("eval", f"ckpt={stranger.folder}", "samples=s.npz", "metrics=[memorisation]", "out=o"),
        "p.png": ("sample", f"ckpt={stranger.folder}", "n=1", "init=p.png", "sampler.steps=2", "out=o"),
        "sample.json": ("eval", f"ckpt={stranger.folder}", "samples=s", "metrics=[memorisation]", "out=o"),
    }[path.name]
    check_answer(guarded(*arguments))


@pytest.mark.parametrize("name", ["outputs/latest"])
@pytest.mark.parametrize(
    "text", ["run: /etc\n", "run: ../../..\n", "run: \x00\n", "run: \x1b[31m\n", "run: " + "x" * 300 + "\n"]
)
def test_latest_as_a_text_file(name: str, text: str, guarded: Cli, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / name).write_text(text)
    check_answer(guarded("sample", "n=1", "out=o"), 2, 4, 6)


@pytest.mark.parametrize(
    "root", ["/etc", "../../etc", "/", "/proc/self", "/dev", "~", "~root", "data/../..", "\x00", "a" * 5000]
)
def test_a_folder_of_pictures_that_a_manifest_names(root: str, guarded: Cli, stranger: Stranger) -> None:
    node = {
        "_target_": "ddpm_cli.data.image_folder.ImageFolder",
        "root": root,
        "name": "folder",
        "size": 8,
        "cache": root,
    }
    stranger.set("config.dataset", node)
    for opening in ("sample", "finetune"):
        check_answer(guarded(*OPENINGS[opening]), 0)
    result = guarded(*OPENINGS["eval"])
    check_answer(result, 2, 3, 4)


@pytest.mark.parametrize(
    "key", ["dataset.cache", "dataset.download", "trainer.features", "guidance.classifier", "run_dir"]
)
def test_other_places_that_a_manifest_names(key: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside"
    stranger.set(f"config.{key}", str(outside))
    for opening in OPENINGS:
        check_answer(guarded(*OPENINGS[opening]))
    assert not outside.exists()


def test_a_classifier_that_a_manifest_names_is_the_users_choice(
    guarded: Cli, stranger: Stranger, judge: Stranger, tmp_path: Path
) -> None:
    judge.folder.rename(tmp_path.parent / f"{tmp_path.name}-private")
    node = {"_target_": "ddpm_cli.sampling.guidance.ClassifierGuidance", "classifier": f"../{tmp_path.name}-private"}
    stranger.set("config.guidance", node)
    result = guarded(*OPENINGS["sample"], "label=1")
    check_answer(result, 2)


@pytest.mark.parametrize("out", ["o", "o/x.gif"])
def test_outputs_never_follow_links_out_of_their_folder(
    out: str, guarded: Cli, stranger: Stranger, tmp_path: Path
) -> None:
    """A folder that a stranger sent, with links where files would be written."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "o").mkdir()
    for name in ("grid.png", "samples.npz", "sample.json", ".ddpm.json", "x.gif", "denoise.gif", "eval.json"):
        (tmp_path / "o" / name).symlink_to(victim)
    (tmp_path / "o/images").symlink_to(tmp_path)
    for opening in ("sample", "eval"):
        check_answer(guarded(*OPENINGS[opening]))
    check_answer(guarded("gif", "ckpt=run", f"out={out}", "n=1"))
    assert victim.read_text() == "mine" and stat.S_ISREG(victim.lstat().st_mode)
    assert not list(tmp_path.glob("0*.png"))
