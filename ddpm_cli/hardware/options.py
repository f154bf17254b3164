"""What users may ask of the hardware. Torch is not imported: wrong values are refused before that takes its seconds."""

from typing import Literal

Precision = Literal["auto", "fp32", "tf32", "bf16"]
CompileSetting = bool | Literal["auto", "graphs"]
CompileMode = Literal["eager", "compiled", "graphs"]
"""What a setting comes to on a machine."""
