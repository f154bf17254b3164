"""What signals ask of a run while it trains: to save and stop, or to save and go on."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..signals import AT_ONCE, SAVE, STOP, Interrupted, check, handled, name_of

log = logging.getLogger(__name__)


class Stops:
    """
    signal: the one that asked to stop; None = none yet.
    nothing_to_save: one that asks to stop does not wait for the end of the step, which takes minutes if it compiles.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._save = False
        self.nothing_to_save = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Signals are noted inside the context. Raises Interrupted if one came before."""
        with handled(STOP, self._on_stop), handled(SAVE, self._on_save):
            check()
            yield

    def save_requested(self) -> bool:
        """Whether a signal has asked for a checkpoint since the last call."""
        requested, self._save = self._save, False
        return requested

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        """On the first signal the run saves, then stops. On a second one, or with nothing to save, it stops at once."""
        if self.signal is not None:
            if time.monotonic() - self._since > AT_ONCE:
                raise Interrupted(number)
            return
        self.signal, self._since = number, time.monotonic()
        if self.nothing_to_save:
            raise Interrupted(number)
        again = "press Ctrl-C again" if name_of(number) == "Ctrl-C" else "send it again"
        log.warning("%s: saving, then stopping; %s to quit now without saving", name_of(number), again)

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        log.info("%s: saving, then going on", name_of(number))
        self._save = True
