"""The simulations bite: what they take away is away, for this program and not for other packages."""

import json
from pathlib import Path
from typing import Any

import pytest

from .refusals import SAME_NAME
from .simulated import System, on_linux, python

pytestmark = on_linux

MAPPED = "import numpy, os; numpy.save('m.npy', [1]); m = numpy.load('m.npy', mmap_mode='r'); os.remove('m.npy')"
TENSORS = """
import os, safetensors.torch, torch
safetensors.torch.save_file({'a': torch.ones(9)}, 'm.safetensors')
with safetensors.safe_open('m.safetensors', 'pt') as file:
    kept = file.get_tensor('a')
os.remove('m.safetensors')
"""
BOTH = {
    "import os; os.sched_getaffinity": "AttributeError",
    "open('/proc/cpuinfo', encoding='utf-8')": "FileNotFoundError",
    "from pathlib import Path; Path('/proc/meminfo').read_text(encoding='utf-8')": "FileNotFoundError",
    "import multiprocessing; assert multiprocessing.get_start_method() == 'fork'": "AssertionError",
    "import os; os.mkdir('new'); os.rename('new', 'newer'); os.rmdir('newer')": "",
}
REFUSED: dict[System, dict[str, str]] = {
    "windows": {
        **BOTH,
        "import resource": "ModuleNotFoundError",
        "import fcntl": "ModuleNotFoundError",
        "from pwd import getpwuid": "ModuleNotFoundError",
        "import os; os.fork": "AttributeError",
        "from os import getuid": "ImportError",
        "import os; os.sysconf": "AttributeError",
        "import os; assert os.name != 'nt'": "AssertionError",
        "import sys; assert sys.platform != 'win32'": "AssertionError",
        "import mmap; mmap.MADV_DONTNEED": "AttributeError",
        "import signal; signal.SIGHUP": "AttributeError",
        "import signal; signal.SIGUSR1": "AttributeError",
        "import signal; signal.signal(1, signal.SIG_IGN)": "ValueError",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL)": "",
        "import multiprocessing; multiprocessing.get_context('fork')": "ValueError",
        "import os; os.symlink('.', 'link')": "OSError",
        "from pathlib import Path; Path('link').symlink_to('.')": "OSError",
        "import os; os.open('.', os.O_RDONLY)": "PermissionError",
        "import os; f = open('f', 'wb'); os.remove('f')": "PermissionError",
        "import os; f = open('f', 'wb'); f.close(); os.remove('f')": "",
        "import os; open('g', 'wb').close(); f = open('f', 'wb'); os.replace('g', 'f')": "PermissionError",
        "import os; f = open('f', 'wb'); os.rename('f', 'g')": "PermissionError",
        "import os, shutil; os.mkdir('d'); f = open('d/f', 'wb'); shutil.rmtree('d')": "PermissionError",
        "import os, shutil; os.mkdir('e'); open('e/f', 'wb').close(); shutil.rmtree('e')": "",
        MAPPED: "PermissionError",
        TENSORS: "PermissionError",
        "open('con', 'wb')": "OSError",
        "open('nul.txt', 'wb')": "OSError",
        "open('console', 'wb').close()": "",
        "open('a:b', 'wb')": "OSError",
        "open('a\\\\b', 'wb')": "OSError",
        "from pathlib import Path; Path('COM1').mkdir()": "OSError",
        "import os; os.mkdir('end.')": "OSError",
        "import os; open('h', 'wb').close(); os.replace('h', 'end ')": "OSError",
        "print('\\u2192')": "UnicodeEncodeError",
        "print('\\u00b1')": "",
        "open('f', 'w')": "EncodingWarning",
        "from pathlib import Path; Path('f').write_text('a')": "EncodingWarning",
        "from pathlib import Path; Path('f').write_text('a', encoding='utf-8')": "",
    },
    "mac": {
        **BOTH,
        "import sys; assert sys.platform != 'darwin'": "AssertionError",
        "import resource as r, os; assert r.getrusage(0).ru_maxrss < 2**20": "AssertionError",
        "import os; os.fork": "",
        "import signal; signal.SIGHUP": "",
        "import os; os.symlink('.', 'link'); os.remove('link')": "",
        "import os; os.close(os.open('.', os.O_RDONLY))": "",
        "import os; f = open('f', 'wb'); os.remove('f')": "",
        "print('\\u2192')": "",
    },
}
TRY = """
import json, sys
outcomes = {}
for code in json.loads(sys.argv[2]):
    try:
        exec(code, {"__name__": sys.argv[1]})
        outcomes[code] = ""
    except BaseException as error:
        outcomes[code] = type(error).__name__
sys.stderr.write("outcomes:" + json.dumps(outcomes))
"""


def tried(system: System, folder: Path, module: str, codes: list[str]) -> dict[str, Any]:
    """Piece of code -> the error that it ends with in a module of that name, or ""."""
    process = python(system, folder, "-c", TRY, module, json.dumps(codes))
    assert process.returncode == 0, process.stderr
    outcomes: dict[str, Any] = json.loads(process.stderr.partition("outcomes:")[2])
    return outcomes


@pytest.mark.parametrize("system", REFUSED)
def test_what_is_refused_is_refused_and_the_rest_works(system: System, tmp_path: Path) -> None:
    assert tried(system, tmp_path, "__probe__", list(REFUSED[system])) == REFUSED[system]


def test_other_packages_keep_their_modules(tmp_path: Path) -> None:
    codes = ["import resource", "import os; os.fork", "import sys; assert sys.platform == 'linux'"]
    assert tried("windows", tmp_path, "another_package", codes) == dict.fromkeys(codes, "")


@pytest.mark.parametrize("system", REFUSED)
def test_names_that_differ_only_in_case_end_the_program(system: System, tmp_path: Path) -> None:
    code = "from pathlib import Path; Path('a.png').write_bytes(b''); Path('A.png').write_bytes(b'')"
    process = python(system, tmp_path, "-c", code)
    assert process.returncode == SAME_NAME and "differs only in case" in process.stderr


def test_children_are_simulated_too(tmp_path: Path) -> None:
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'open(\"con\", \"wb\")']))"
    process = python("windows", tmp_path, "-c", code)
    assert process.returncode == 1 and "volume label syntax" in process.stderr
