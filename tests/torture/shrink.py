"""The smallest case that still fails in the same way, by dropping what it does not need."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from .server import Case, Outcome, bytes_of, text_of

MOST = 80
"""Runs that a case is worth."""


def shrunk(outcome: Outcome, run: Callable[[Case], Outcome]) -> Outcome:
    """`outcome` with arguments, files, edits, lines and bytes dropped as long as the kind of its problem stays."""
    kind, left = kind_of(outcome), MOST
    while True:
        for smaller in _smaller(outcome.case):
            left -= 1
            if left < 0:
                return outcome
            again = run(smaller)
            if kind_of(again) == kind:
                outcome = again
                break
        else:
            return outcome


def kind_of(outcome: Outcome) -> str:
    """The problem without what differs from case to case: names, numbers, places."""
    return re.sub(r"'.*?'|\".*?\"|\d+|\S*/\S*", "*", (outcome.problem or "")[:160])[:90]


def _smaller(case: Case) -> Iterator[Case]:
    arguments = case.arguments
    for size in (4, 2, 1):
        for i in range(1, len(arguments), size):
            yield replace(case, arguments=arguments[:i] + arguments[i + size :])
    for i in range(len(case.edits)):
        yield replace(case, edits=case.edits[:i] + case.edits[i + 1 :])
    for i in range(len(case.runs)):
        yield replace(case, runs=case.runs[:i] + case.runs[i + 1 :])
    for name in case.files:
        yield replace(case, files={k: v for k, v in case.files.items() if k != name})
    for name, text in case.files.items():
        for smaller in _texts(text):
            yield replace(case, files={**case.files, name: smaller})
    for i, argument in enumerate(arguments):
        if i and len(argument) > 30:
            yield replace(case, arguments=(*arguments[:i], argument[: len(argument) // 2], *arguments[i + 1 :]))


def _texts(text: str) -> Iterator[str]:
    raw = bytes_of(text)
    pieces = raw.split(b"\n") if not text.startswith("base64:") else [raw[i : i + 16] for i in range(0, len(raw), 16)]
    joint = b"" if text.startswith("base64:") else b"\n"
    for part in (2, 4, 8):
        size = len(pieces) // part
        for i in range(0, len(pieces), size) if size > 1 else ():
            yield _as(text, joint.join(pieces[:i] + pieces[i + size :]))
    for i in range(len(pieces)) if len(pieces) < 40 else ():
        yield _as(text, joint.join(pieces[:i] + pieces[i + 1 :]))


def _as(before: str, raw: bytes) -> str:
    return text_of(raw) if before.startswith("base64:") else raw.decode("utf-8", "surrogateescape")
