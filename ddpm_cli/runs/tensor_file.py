"""The tensors of a checkpoint: writing them, and picking some by their names."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import NonFiniteError
from ..files import number_of


def write(temporary: Path, path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """Write tensors of the step to `temporary`, which will get the name `path`.

    Raises:
        NonFiniteError: a weight is NaN or infinite.
        OSError: of `path`.
    """
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    _check_finite(flat, step)
    try:
        save_file(flat, temporary)
    except SafetensorError as error:  # it wraps the error of the operating system
        number = number_of(error)
        raise OSError(number, os.strerror(number) if number else str(error), str(path)) from error
    with suppress(OSError):  # some file systems have no permissions
        temporary.chmod(0o666 & ~_umask())  # save_file makes it readable by its owner only, unlike the manifest


def _check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raises NonFiniteError for weights or moments that are NaN or infinite: they would be worth nothing."""
    for name, tensor in tensors.items():
        weights = name.startswith(("model.", "ema.", "optimizer.")) and tensor.is_floating_point()
        if weights and not bool(tensor.isfinite().all()):
            raise NonFiniteError(
                f"{name}: is NaN or infinite at step {step}, so it was not saved; a checkpoint saved earlier is "
                "intact; lower optimizer.lr, set trainer.grad_clip=1, or use trainer.precision=fp32"
            )


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, which is removed."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
