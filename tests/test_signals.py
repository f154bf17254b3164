"""A signal that is sent to a process and to its group arrives twice; one that comes later means: leave now."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

SCRIPT = """
import os, signal, time
from ddpm_cli import signals
from ddpm_cli.cli import _launched
import ddpm_cli.config.launch as launch

def work(name, arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:  # what is cleaned up takes a while
        time.sleep({wait})
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleaned up", flush=True)

launch.launch = work
raise SystemExit(_launched("train", []))
"""


DROPPED = """
import os, signal
import ddpm_cli.config.launch as launch
from ddpm_cli.cli import _launched

def dropped(*arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        raise ValueError("what a package makes of it") from error

launch.{where} = dropped
raise SystemExit(_launched("train", ["trainer.steps=1"]))
"""


FINALIZER = """
import os, signal, time
import ddpm_cli.config.launch as launch
from ddpm_cli.cli import _launched

class Kept:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def at_fork():
    os.kill(os.getpid(), signal.SIGTERM)

def work(*arguments):
    {act}
    time.sleep(5)
    print("went on")

launch.launch = work
raise SystemExit(_launched("train", []))
"""
FORK = "os.register_at_fork(after_in_parent=at_fork); os.fork() or os._exit(0)"


@pytest.mark.parametrize("act", ["Kept()", FORK])
def test_a_signal_is_answered_though_python_drops_its_exception(act: str) -> None:
    command = [sys.executable, "-c", FINALIZER.format(act=act)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGTERM and result.stdout == ""
    assert "stopped without saving" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("where", ["prepared", "launch"])
def test_a_signal_is_answered_though_a_package_makes_another_exception_of_it(where: str) -> None:
    command = [sys.executable, "-c", DROPPED.format(where=where)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGTERM
    assert "stopped without saving" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("wait", "out", "err"),
    [("0", "cleaned up\n", "stopped without saving"), ("0.7", "", "ddpm: SIGTERM: stopped at once\n")],
)
def test_only_a_second_signal_that_comes_later_ends_the_process_where_it_is(wait: str, out: str, err: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(wait=wait)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGTERM and result.stdout == out
    assert err in result.stderr and result.stderr.count("\n") == 1
