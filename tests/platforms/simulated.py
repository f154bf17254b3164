"""Starts Python with the differences of another system put in, see docs/platforms.md."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

System = Literal["windows", "mac"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems are simulated on Linux")
ROOT = Path(__file__).parents[2]
SETTINGS = {"windows": {"PYTHONIOENCODING": "cp1252", "PYTHONWARNDEFAULTENCODING": "1"}, "mac": {}}


class Result(NamedTuple):
    code: int
    out: str
    err: str


def python(system: System, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in `folder`."""
    path = [str(ROOT / "tests/platforms/site"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    settings = SETTINGS[system] | {"PYTHONPATH": os.pathsep.join(path), "DDPM_SIMULATE": system, "COLUMNS": "200"}
    encoding = settings.get("PYTHONIOENCODING", "utf-8")
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | settings, capture_output=True, encoding=encoding, check=False
    )


def ddpm(system: System, folder: Path, *lines: Sequence[str]) -> list[Result]:
    """Run commands one after the other in one process, which saves the imports. Each line is one command's words."""
    script = f"from tests.platforms.simulated import _serve; _serve({json.dumps(lines)!r})"
    process = python(system, folder, "-c", script)
    marks = [json.loads(text) for text in process.stdout.splitlines() if text.startswith('{"code"')]
    assert len(marks) == len(lines), f"exit code {process.returncode}\n{process.stdout}\n{process.stderr}"
    outs, errors = (text.split(_MARK) for text in (process.stdout, process.stderr))
    codes = [mark["code"] for mark in marks]
    return [Result(*texts) for texts in zip(codes, outs, errors, strict=False)]


_MARK = "--- end of the command ---\n"


def _serve(lines: str) -> None:
    import gc

    from ddpm_cli.cli import main

    for line in json.loads(lines):
        sys.argv, code = ["ddpm", *line], 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        gc.collect()  # a process of its own would have closed everything
        sys.stderr.write(_MARK)
        print(json.dumps({"code": code}), _MARK, sep="\n", end="", flush=True)
