"""What a checkpoint holds is not what the program saves: errors of any kind become one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CheckpointError, OutOfMemoryError, explain, out_of_memory
from .checkpoint import Checkpoint


@contextmanager
def describing(found: Checkpoint) -> Iterator[None]:
    """What the manifest of `found` describes is built inside.

    Raises:
        CheckpointError: it describes no model, in whatever way.
    """
    try:
        yield
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        if explain(error)[1] == OutOfMemoryError.code:
            raise
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise CheckpointError(
            f"{found.manifest_path}: does not describe a model ({reason}); restore it or use another checkpoint"
        ) from error


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raises CheckpointError for an error inside: a value is missing, unknown or of another kind than a run saves."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path}: does not have what this run saves ({reason}); restore it or use another checkpoint"
        ) from error
