"""The `ddpm` program: runs the command that the first argument names. Imports nothing slow, so that --help is fast."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version

from .config.shipped import commands
from .errors import explain
from .signals import JOB, arrived, end_with_parent, interruptible
from .trust import leave_working_directory


def main() -> None:
    """Entry point of the `ddpm` program."""
    leave_working_directory()
    from . import console

    console.survive()
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        _complete(arguments)
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        console.usage(commands())
        return
    if arguments[0] in ("-V", "--version", "version"):
        console.say(f"ddpm {_version()}")
        return
    name, rest = arguments[0], arguments[1:]
    if JOB in os.environ:  # a run of a sweep
        end_with_parent()
    if name not in commands():
        import difflib

        close = difflib.get_close_matches(name, commands(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"commands: {', '.join(commands())}"
        console.error(f"{name}: is not a command; {hint}")
        sys.exit(2)
    sys.exit(_launched(name, rest))


def _launched(name: str, arguments: list[str]) -> int:
    """Run a command. Returns its exit code, also for a signal that comes before the command handles them."""
    try:
        with interruptible(last=True):  # with the handlers of before, a signal while it ends would kill the process
            from .config.launch import launch

            return launch(name, arguments)
    except BaseException as error:  # packages make other exceptions of a signal's, while they are imported too
        interrupted = error if isinstance(error, KeyboardInterrupt) else arrived()
        if interrupted is None:
            raise
        from . import console

        message, code = explain(interrupted)
        console.stopped(message)
        return code


def _version() -> str:
    try:
        return version("ddpm-cli")
    except PackageNotFoundError:
        return "(not installed)"


def _complete(arguments: list[str]) -> None:
    """Tab completion: of the command here, of the rest of the line by Hydra with that command's config.

    Hydra's shell functions call `ddpm -sc query=SHELL` with the typed line in COMP_LINE.
    """
    from . import console

    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    typing_command = len(words) < 2 or (len(words) == 2 and not line.endswith(" "))
    if any(a.startswith("query=") for a in arguments) and typing_command:
        prefix = words[1] if len(words) == 2 else ""
        separator = "\n" if "query=fish" in arguments else " "  # the format that Hydra uses for each shell
        console.say(separator.join(c for c in commands() if c.startswith(prefix)))
        return
    name = words[1] if len(words) > 1 and words[1] in commands() else "train"
    if line:
        cut = line.find(name) + len(name)
        point = int(os.environ.get("COMP_POINT", len(line)))
        os.environ["COMP_LINE"] = words[0] + line[cut:]
        os.environ["COMP_POINT"] = str(max(point - cut + len(words[0]), 0))
    from .config.launch import launch

    sys.exit(launch(name, arguments))
