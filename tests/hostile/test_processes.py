"""The whole program as a process: what it imports, starts, opens and writes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .strangers import Stranger

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-7f1e9b"
NAMES = (
    "imageio", "rich", "json", "av", "torch", "numpy", "yaml", "hydra", "omegaconf", "PIL", "matplotlib", "logging",
    "safetensors", "filelock", "sitecustomize_", "tensorboard", "pickle", "random", "readline", "antlr4", "tqdm",
)  # fmt: skip
START = {"ddpm": ["-c", "from ddpm_cli.cli import main; main()"], "module": ["-m", "ddpm_cli"]}


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return kept | {"PYTHONPATH": str(ROOT), "HOSTILE_SECRET": SECRET, "COLUMNS": "120"} | more


def started(folder: Path, command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=200
    )


def console_script(folder: Path) -> Path:
    """As pip writes it."""
    script = folder / "ddpm"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom ddpm_cli.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("start", ["console script", "module"])
def test_modules_beside_the_user_are_not_imported(start: str, tmp_path: Path) -> None:
    """Not even one of our own name; for `python -m` this needs -P."""
    work, bin_folder = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    bin_folder.mkdir()
    Stranger.of("digits", work / "run")
    for name in (*NAMES, "ddpm_cli"):
        (work / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name + ' '!r})\n")
    script = [str(console_script(bin_folder))]
    command = [sys.executable, *(["-P", "-m", "ddpm_cli"] if start == "module" else script)]
    for arguments in (["--version"], ["sample", "ckpt=run", "n=1", "out=o", "sampler.steps=1"]):
        done = started(work, [*command, *arguments])
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


def test_python_m_beside_modules_of_other_names(tmp_path: Path) -> None:
    """Without -P, Python looks for ddpm_cli itself in the working directory, but for nothing else."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("open('ran', 'a')\n")
    Stranger.of("digits", tmp_path / "run")
    command = [sys.executable, "-m", "ddpm_cli", "sample", "ckpt=run", "n=1", "out=o", "sampler.steps=1"]
    done = started(tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)$")
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
THREAD = "CLONE_THREAD"
LDCONFIG = '"/sbin/ldconfig", ["/sbin/ldconfig", "-p"]'
"""What importing torch for CUDA starts, to find a library of the system."""


def calls(trace: Path) -> list[tuple[str, str]]:
    found = (CALL.match(line) for line in trace.read_text(errors="replace").splitlines())
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_what_sampling_a_strangers_checkpoint_does(tmp_path: Path) -> None:
    work, home, temporary = (tmp_path / name for name in ("work", "home", "temporary"))
    for folder in (work, home, temporary):
        folder.mkdir()
    stranger = Stranger.of("digits", work / "run")
    stranger.set("about.class_names", ["${oc.env:HOSTILE_SECRET}", *map(str, range(9))])
    trace = tmp_path / "trace"
    which = "execve,execveat,fork,vfork,clone,clone3,socket,connect,bind,open,openat,creat,rename,unlink,mkdir,symlink"
    options = ["strace", "-f", "-qq", "-s", "300", "-o", str(trace), "-e", f"trace={which}"]
    command = [sys.executable, *START["ddpm"], "sample", "ckpt=run", "n=2", "out=o", "sampler.steps=2"]
    places = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [*options, *command], cwd=work, env=environment(PYTHONDONTWRITEBYTECODE="1", **places), capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip("strace is not permitted here")
    assert done.returncode == 0, done.stderr
    seen = calls(trace)
    assert any(name == "openat" for name, _ in seen)
    started = [args for name, args in seen if name in ("execve", "execveat")]
    by_torch = [args for args in started if args.startswith(LDCONFIG)]
    assert len(started) == 1 + len(by_torch), started[1:]
    children = [args for name, args in seen if name in ("fork", "vfork", "clone", "clone3") and THREAD not in args]
    assert len(children) <= len(by_torch), children
    assert not [args for name, args in seen if name in ("socket", "connect", "bind")]
    written = [args for name, args in seen if name in ("open", "openat", "creat") and WRITING.search(args)]
    paths = {Path(work, match[1]) for args in written if (match := re.search(r'"((?:[^"\\]|\\.)*)"', args))}
    allowed = (work / "o", home, temporary, Path("/dev"), Path("/proc/self"))
    assert not [str(p) for p in paths if not any(p.is_relative_to(folder) for folder in allowed)]
    changed = [args for name, args in seen if name in ("rename", "unlink", "mkdir", "symlink") and "= -1" not in args]
    for args in changed:
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', args):
            assert any(Path(work, text).is_relative_to(folder) for folder in (*allowed, work / "outputs")), args
    outputs = [p for folder in (work / "o", home, temporary) for p in folder.rglob("*") if p.is_file()]
    assert not [p for p in outputs if SECRET.encode() in p.read_bytes()]
    assert SECRET not in done.stdout + done.stderr
