"""Runs as a stranger would send them, and what every command must answer to them."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddpm_cli.runs import manifest

from ..conftest import Result
from ..manifests import edit

GOLDEN = Path(__file__).parents[1] / "golden"
STEM = "step_00000004"
CODES = (2, 3, 4, 5, 6)
"""Of the contract, for wrong input; 5 for numbers that are in range, but with which nothing can be computed."""
LAUNCHES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile", "pty.spawn")
FORBIDDEN = {*LAUNCHES, "subprocess.Popen", "pickle.find_class", "webbrowser.open"}
SOCKETS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CACHES = ("matplotlib-", "torchinductor_")
"""Beginnings of the names of folders that libraries make for themselves."""
CHANGES = ("os.remove", "os.rename", "os.truncate", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.mkdir")


@dataclass
class Stranger:
    """A copy of a small run of an earlier version, which is not known here."""

    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> "Stranger":
        """name: of a folder in tests/golden."""
        shutil.copytree(GOLDEN / name / "run", folder)
        return cls(folder)

    @property
    def manifest(self) -> Path:
        return self.folder / "checkpoints" / f"{STEM}.json"

    @property
    def tensors(self) -> Path:
        return self.manifest.with_suffix(".safetensors")

    def content(self) -> dict[str, Any]:
        """The manifest without its digest."""
        content: dict[str, Any] = json.loads(self.manifest.read_text(encoding="utf-8"))
        return {key: value for key, value in content.items() if key not in ("format", "digest")}

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the manifest, and give it a digest that fits."""
        edit(self.manifest, change, sealed=False)

    def set(self, key: str, value: Any) -> None:
        """Set a key such as "config.model.channels"."""
        self.change(lambda content: put(content, key, value))

    def put_tensors(self, raw: bytes) -> None:
        """Replace the file of tensors by `raw`, with size and digest that fit."""
        self.tensors.write_bytes(raw)
        facts = {"size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        self.change(lambda content: content.update(facts))

    def put_config(self, key: str, value: Any) -> None:
        """Set a key of config.json, which tables of classifiers read."""
        file = self.folder / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        put(config, key, value)
        file.write_text(json.dumps(config), encoding="utf-8")


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Set a nested key."""
    *above, last = key.split(".")
    for name in above:
        content = content.setdefault(name, {})
    content[last] = value


def raw_manifest(path: Path, text: str) -> None:
    """Write a manifest whose text is `text`, with a digest that fits: its value must be 64 zeros."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(text.replace(manifest.BLANK, digest, 1), encoding="utf-8", newline="\n")


@dataclass
class Watch:
    """What the program did while it was watched: processes, sockets, pickles, and files outside of `inside`."""

    inside: tuple[Path, ...]
    seen: list[str] = field(default_factory=list)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        if event in FORBIDDEN or event in SOCKETS:
            self.seen.append(f"{event} {args[:2]!r}")
        elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            path, mode, flags = args
            written = bool((flags or 0) & WRITES) or bool(mode and set(mode) & set("wax+"))
            if written and not self._may_write(path):
                self.seen.append(f"wrote {os.fsdecode(path)}")
        elif event in CHANGES:
            changed = args[1] if event in ("os.rename", "os.link", "os.symlink") else args[0]
            if isinstance(changed, str | bytes | os.PathLike) and not self._may_write(changed):
                self.seen.append(f"{event} {os.fsdecode(changed)}")

    def _may_write(self, path: Any) -> bool:
        text = os.fsdecode(path)
        where = Path(os.path.abspath(text))  # noqa: PTH100 (links stay: the tests check what they point to)
        if where.name == "matplotlib" or any(part.startswith(CACHES) for part in where.parts):
            return True
        return text == os.devnull or any(where.is_relative_to(folder) for folder in self.inside)


_watching: list[Watch] = []
_installed: list[bool] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    for watch in _watching:
        watch.note(event, args)


@contextmanager
def watched(*inside: Path) -> Iterator[Watch]:
    """Watch this process. An audit hook cannot be removed, so there is one, which does nothing outside."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    watch = Watch(tuple(p.resolve() for p in inside))
    _watching.append(watch)
    try:
        yield watch
    finally:
        _watching.remove(watch)


def check_answer(result: Result, *codes: int) -> None:
    """A valid result, or one line with an exit code of the contract.

    Args:
        codes: only these are right; without them, 0 and all of the contract.
    """
    what = (result.code, result.err[-2000:])
    assert result.code in (codes or (0, *CODES)), what
    assert "\x1b" not in result.out + result.err, what
    assert "Traceback" not in result.err and "this is a bug" not in result.err, what
    errors = [line for line in result.err.splitlines() if line.startswith("ddpm: error: ")]
    assert len(errors) == (result.code != 0), what
    if result.code != 0:
        assert result.err.splitlines()[-1] == errors[0] and len(errors[0]) < 6000, what


def secret_in(folder: Path, secret: str, results: Mapping[str, str]) -> list[str]:
    """Where the secret is: files of `folder`, or outputs by name."""
    files = [str(path) for path in sorted(folder.rglob("*")) if path.is_file() and secret.encode() in path.read_bytes()]
    return files + [name for name, text in results.items() if secret in text]
