"""A machine of any speed, on whose clock runs with a budget end at once."""

from typing import Any

import pytest

from ddpm_cli.training import budget, loop


class Machine:
    """A clock that only moves by what the training does: `step` seconds a step, which can change at a step."""

    def __init__(self, step: float, check: float = 0.0, slower_from: int | None = None, factor: float = 1.0):
        self.now, self.step, self.check, self.slower_from, self.factor = 0.0, step, check, slower_from, factor

    def use(self, monkeypatch: pytest.MonkeyPatch) -> "Machine":
        update, callbacks = loop.update, loop.run_callbacks

        def slow_update(objective: Any, model: Any, state: Any, *rest: Any) -> Any:
            slow = self.slower_from is not None and state.step >= self.slower_from
            self.now += self.step * (self.factor if slow else 1)
            return update(objective, model, state, *rest)

        def slow_callbacks(*arguments: Any) -> bool:
            self.now += self.check
            return callbacks(*arguments)

        monkeypatch.setattr(budget, "clock", lambda: self.now)
        monkeypatch.setattr(loop, "update", slow_update)
        monkeypatch.setattr(loop, "run_callbacks", slow_callbacks)
        return self
