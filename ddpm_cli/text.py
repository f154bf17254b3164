"""Options that are text: the types of paths and names, and how Hydra's grammar quotes them."""

import os
import re
from collections.abc import Sequence
from typing import Annotated

PathText = Annotated[str, "path"]
"""The path of a file or folder, taken letter for letter; a leading `~` or `~user` means the home folder."""
NameText = Annotated[str, "name"]
"""The name of a class, a run or a package, taken letter for letter, also if it looks like a number."""


def home(path: str) -> str:
    """The path with a leading `~` or `~user` expanded; unchanged if there is no such user."""
    return os.path.expanduser(path) if path.startswith("~") else path  # noqa: PTH111 (Path raises for unknown users)


def quoted(text: str) -> str:
    """`text` as a quoted value of Hydra's grammar, in which a backslash is special only before a quotation mark."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return '"' + escaped + "\\" * (len(text) - len(text.rstrip("\\"))) + '"'


def is_quoted(value: str) -> bool:
    """Whether a value is in quotation marks as Hydra reads them."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


def unquoted(value: str) -> str:
    """The text of a value, without the quotation marks around it if there are any."""
    if not is_quoted(value):
        return value
    mark = value[0]
    inner = re.sub(rf"(\\*)\\\1{mark}", rf"\1{mark}", value[1:-1])
    trailing = len(inner) - len(inner.rstrip("\\"))
    return inner[: len(inner) - trailing // 2] if trailing else inner


def in_list(name: str) -> str:
    """A name as an item of a list in a message: printable, in quotes where it would not read as one item."""
    text = printable(name)
    return f"'{text}'" if not text or text != text.strip() or set(text) & set(",()[]") else text


def named(names: Sequence[str], most: int = 3) -> str:
    """The names, or the first ones: "cat, dog, owl, ..."."""
    return ", ".join(map(in_list, names[:most])) + (", ..." if len(names) > most else "")


def printable(name: str, kept: str = "") -> str:
    """A name of a file or class for a message: line breaks, escape codes and bytes that are no text as escapes.

    Args:
        kept: characters that stay as they are.
    """
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, as JSON can have it
        text = name
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)
