"""The values of the hardware options. Does not import torch, so that wrong values are reported without that delay."""

from typing import Literal

Precision = Literal["auto", "fp32", "tf32", "bf16"]
CompileSetting = bool | Literal["auto", "graphs"]
CompileMode = Literal["eager", "compiled", "graphs"]
"""What a `CompileSetting` means on a given machine."""
