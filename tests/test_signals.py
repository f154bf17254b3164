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


ENDING = """
import os, signal
import ddpm_cli.config.launch as launch
from ddpm_cli import console
from ddpm_cli.cli import _launched

def work(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)

def stopped(message):
    os.kill(os.getpid(), signal.SIGTERM)
    print(message)

launch.launch, console.stopped = work, stopped
raise SystemExit(_launched("train", []))
"""


def test_a_signal_while_the_command_ends_does_not_kill_it() -> None:
    result = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False)
    assert result.returncode == 128 + signal.SIGTERM and "stopped without saving" in result.stdout


SHIELDED = """
import os, signal, subprocess, sys
from ddpm_cli.signals import STOP, handled, shielded

came = []
with handled(STOP, lambda number, frame: came.append(number)):
    with shielded():
        program = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(0.5)"])
        for number in STOP:
            os.killpg(0, number)
        code = program.wait()
    assert sorted(came) == sorted(STOP) and code == 0, (came, code)
    program = subprocess.Popen(["sleep", "9"])
    os.killpg(0, signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM
"""


def test_signals_reach_this_process_and_not_a_shielded_program() -> None:
    command = [sys.executable, "-c", SHIELDED]
    result = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert result.returncode == 0, result.stderr


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
