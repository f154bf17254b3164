"""Everything that appears in the terminal. The only module that prints, and the only one that knows rich."""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Cell = tuple[tuple[int, int, int], tuple[int, int, int]]


def say(text: str) -> None:
    """One line on stdout, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """One line on stdout, with a mark that sets it apart from log lines."""
    out.print(f"[bold cyan]>[/] {escape(text)}", soft_wrap=True)


def error(text: str) -> None:
    """The one line that a failed command leaves on stderr."""
    one_line = " ".join(text.split())
    err.print(Text.assemble(("ddpm: error: ", "bold red"), one_line), soft_wrap=True)


def usage(commands: Mapping[str, str]) -> None:
    """What `ddpm` alone answers."""
    out.print("[bold]ddpm[/]: train, sample and animate diffusion models from composed YAML\n")
    out.print("usage: ddpm COMMAND [group=choice ...] [key=value ...] [-m]\n", markup=False)
    width = max(map(len, commands))
    for name, about in commands.items():
        out.print(f"  [bold]{name:{width}}[/]  {escape(about)}")
    out.print(
        "\nexamples:\n"
        "  ddpm train                                  handwritten digits, a minute or two on a laptop\n"
        "  ddpm train dataset=image_folder dataset.root=pictures dataset.size=64\n"
        "  ddpm train -m schedule=linear,cosine        a sweep: one run directory each\n"
        "  ddpm sample n=64                            from the newest run; ckpt=RUN picks another\n"
        "  ddpm gif                                    its denoising as an animation\n"
        "\n'ddpm COMMAND --help' shows every group and key, '--cfg job' the composed config.\n"
        "Tab completion for bash: eval \"$(ddpm -sc install=bash)\"",
        markup=False,
        soft_wrap=True,
    )


def show_config(config: Mapping[str, Any], title: str) -> None:
    """The composed config as a tree, one branch for each group."""
    tree = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    _branch(tree, config)
    out.print(tree, soft_wrap=True)


def _branch(tree: Tree, node: Mapping[str, Any]) -> None:
    plain = [k for k, v in node.items() if not isinstance(v, Mapping)]
    for key in [*plain, *(k for k in node if k not in plain)]:
        value = node[key]
        if isinstance(value, Mapping):
            target = str(value.get("_target_", "")).rpartition(".")[2]
            branch = tree.add(f"[bold cyan]{escape(key)}[/] [dim]{escape(target)}[/]")
            _branch(branch, value)
        elif key not in ("_target_", "_partial_"):
            text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            tree.add(f"{escape(key)}: [green]{escape(text)}[/]")


def show_picture(cells: Sequence[Sequence[Cell]], shades: Sequence[str], caption: str = "") -> None:
    """A thumbnail made of half blocks (two pixels a character), or of characters where there is no colour."""
    if caption:
        note(caption)
    if out.color_system in ("truecolor", "256") and _can_print("▀"):
        for row in cells:
            line = Text("  ")
            for (r, g, b), (s, h, c) in row:
                line.append("▀", f"rgb({r},{g},{b}) on rgb({s},{h},{c})")
            out.print(line, no_wrap=True, crop=True)
    else:
        for text in shades:
            out.print("  " + text, markup=False, no_wrap=True, crop=out.is_terminal)


def columns() -> int:
    """How many characters a picture may be wide."""
    return max(min(out.width, 100) - 4, 16)


def _can_print(character: str) -> bool:
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class LogHandler(RichHandler):
    """Log lines above the progress bar; plain `LEVEL message` where the output is not a terminal."""

    def __init__(self, level: int = logging.NOTSET):
        super().__init__(level, console=err, show_time=False, show_path=False, markup=False, rich_tracebacks=False)

    def emit(self, record: logging.LogRecord) -> None:
        if self.console.is_terminal:
            super().emit(record)
        else:
            self.console.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False, soft_wrap=True)
