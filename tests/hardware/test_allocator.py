"""The host's memory allocator."""

import platform
import subprocess
import sys

import pytest

from ddpm_cli.hardware.allocator import keep_freed_memory

FAULTS = """
import resource
from ddpm_cli.hardware.allocator import keep_freed_memory
import torch
if {keep}:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(2**24)
before = faults()
for _ in range(20):
    torch.zeros(2**24).add_(1)  # 64 MiB
print(faults() - before)
"""


def test_it_returns_whether_it_is_possible() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_reused_without_a_page_fault_per_page() -> None:
    def faults(keep: bool) -> int:
        code = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert faults(True) < faults(False) / 2  # some faults remain: the heap grows a few times first
