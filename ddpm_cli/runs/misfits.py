"""A checkpoint does not hold what the program saves: errors of any kind become one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from ..errors import CheckpointError, out_of_memory

NO_MODEL = "does not describe a model"
NOT_SAVED = "does not have what this run saves"


@contextmanager
def understood(path: Path, problem: str) -> Iterator[None]:
    """What the file at `path` says is used inside, whoever wrote it.

    Args:
        problem: what the file does not do, for the message.

    Raises:
        CheckpointError: a value in it is missing, unknown or of another kind than the program saves.
    """
    try:
        yield
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: {problem} ({reason}); restore it or use another checkpoint") from error


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load `tensors` into `module`. Raises CheckpointError when names or shapes differ."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if len(str(error).splitlines()) > 1 else str(error)
        raise CheckpointError(
            f"{where}: does not fit the network ({first}); use the settings it was trained with"
        ) from error
