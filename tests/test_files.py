"""Files are complete or absent, and paths in advice can be typed as printed."""

import errno
import os
import re
import shlex
from pathlib import Path, PureWindowsPath

import pytest

from ddpm_cli import files
from ddpm_cli.config.arguments import prepared
from ddpm_cli.config.compose import compose_command
from ddpm_cli.files import override, read_json, write_atomically

from .writes import recorded_writes


@pytest.mark.parametrize(
    "path",
    [
        "outputs/run",
        "a b",
        "a=b",
        "it's",
        'say "x"',
        "(1)",
        "a,b",
        "~x",
        "é",
        "{x}",
        "$x",
        "1e3",
        "nan",
        "null",
        "a\\b",
        "a\\",
        "[a]",
    ],
)
def test_a_path_is_quoted_for_shell_and_hydra(path: str) -> None:
    typed = override("ckpt", path)
    arguments = shlex.split(f"ddpm sample {typed}")
    assert len(arguments) == 3
    assert str(compose_command("sample", prepared("sample", arguments[2:])).ckpt) == str(path)
    if path == "outputs/run":
        assert typed == "ckpt=outputs/run"


@pytest.mark.parametrize(
    "path",
    [
        "outputs\\2026-11-27\\04-25-12",
        "C:\\new\\table",
        "C:\\",
        "C:\\my runs\\",
        "\\\\server\\share\\a",
        "it's",
        "a,b",
        "$x `y",
        "é",
        "1e3",
        "a=b (1)",
    ],
)
def test_a_path_is_quoted_for_powershell_and_hydra(path: str) -> None:
    typed = override("ckpt", PureWindowsPath(path), windows=True)
    text = str(PureWindowsPath(path))
    if typed.startswith('"'):  # within double quotes, a backtick takes away what the next character means
        assert typed.endswith('"') and '"' not in typed[1:-1]
        typed = re.sub("`(.)", r"\1", typed[1:-1])
    else:
        assert not re.search(r"[\s'$`,;(){}@&|<>#]", typed)
    assert str(compose_command("sample", [typed]).ckpt) == text
    if text == "C:\\new\\table":
        assert typed == "ckpt=C:\\new\\table"


def test_only_the_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in (
        ".a.json.17.part",
        "..hidden.18.part",
        ".step_1.png.19.part",
        ".a.json.part",
        ".x.part",
        "a.json.17.part",
    ):
        (tmp_path / name).write_text("")
    (tmp_path / ".b.json.17.part").mkdir()
    files.remove_parts(tmp_path, "a.json")
    files.remove_parts(tmp_path, ".hidden")
    assert not (tmp_path / ".a.json.17.part").exists() and not (tmp_path / "..hidden.18.part").exists()
    files.remove_parts(tmp_path, only={"other.png"})
    assert (tmp_path / ".step_1.png.19.part").exists()
    files.remove_parts(tmp_path, "step_*")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".a.json.part",
        ".b.json.17.part",
        ".x.part",
        "a.json.17.part",
    ]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    """The system does not, and the temporary file is nobody's concern."""

    def full(path: Path) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "x.gif", full)
    assert caught.value.filename == str(tmp_path / "x.gif") and not list(tmp_path.iterdir())


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe, or /dev/zero, would be read for ever."""
    for value in ("[" * 100_000, "NaN,", ""):
        (tmp_path / "x").write_text(value)
        with pytest.raises(ValueError):
            read_json(tmp_path / "x")
    with pytest.raises(ValueError, match="no file"):
        read_json(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="no file"):
            read_json(tmp_path / "pipe")


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut can leave an empty file under the final name, or take the name back."""
    with recorded_writes(monkeypatch, tmp_path) as calls:
        files.write_atomically(tmp_path / "x", lambda path: path.write_text("new"))
    part = f".x.{os.getpid()}.part"
    assert calls == [("sync", part), ("rename", part, "x"), ("sync", tmp_path.name)]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_json(tmp_path / "x.json", [1])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(tmp_path / "x.json", [2])
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "[\n  1\n]\n"
