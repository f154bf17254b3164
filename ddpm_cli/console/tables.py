"""Usage, help, tables of numbers and the config as a tree."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.tree import Tree

from ..text import printable
from .lines import escape, out

NARROW = 110
"""A terminal with fewer columns shows the help of a key below it, not beside it."""
WIDEST = 1000
"""A width in characters that no table exceeds."""


def usage(commands: Mapping[str, str]) -> None:
    """Print the help of `ddpm` without a command."""
    out.print("[bold]ddpm[/]: train, sample, animate and evaluate diffusion models from composed YAML\n")
    out.print("usage: ddpm COMMAND [group=choice ...] [key=value ...] [-m]\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    for name, about in commands.items():
        table.add_row(f"[bold]{name}[/]", escape(about))
    out.print(table)
    out.print(
        "\nexamples:\n"
        "  ddpm train                                  train on handwritten digits, a minute or two on a laptop\n"
        "  ddpm train dataset=image_folder dataset.root=pictures dataset.size=64\n"
        "  ddpm train -m schedule=linear,cosine        a sweep: one run for each schedule\n"
        "  ddpm sample n=64                            draw samples from the newest run; ckpt=RUN picks another run\n"
        "  ddpm gif                                    animate how samples of the newest run appear out of noise\n"
        "\n'ddpm COMMAND --help' shows every group and key, 'ddpm COMMAND --cfg job' the composed config,\n"
        "'ddpm --version' the version.\n"
        'Tab completion for bash: eval "$(ddpm -sc install=bash)"',
        markup=False,
        soft_wrap=not out.is_terminal,
    )


class Help(NamedTuple):
    """groups: (name, choices, current choices). keys: (dotted name, value, comment)."""

    command: str
    about: str
    groups: list[tuple[str, list[str], list[str]]]
    keys: list[tuple[str, str, str]]


def show_help(about: Help) -> None:
    """Print the groups with their choices, the current one marked; then the keys, values and their meaning."""
    out.print(f"[bold]ddpm {about.command}[/]: {escape(about.about)}\n", soft_wrap=not out.is_terminal)
    out.print(f"usage: ddpm {about.command} [group=choice ...] [key=value ...] [-m]\n", markup=False)
    if about.groups:
        out.print("[bold]groups[/] (group=choice; * marks the current choice)")
        groups = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for group, choices, current in about.groups:
            marked = (f"[bold green]*{escape(c)}[/]" if c in current else escape(c) for c in choices)
            groups.add_row(f"[cyan]{group}[/]", "  ".join(marked))
        out.print(groups)
        out.print()
    out.print("[bold]keys[/] (key=value)")
    (_keys_in_columns if out.width >= NARROW else _keys_in_lines)(about.keys)
    example = " (sweep: schedule=linear,cosine)" if any(name == "schedule" for name, *_ in about.groups) else ""
    out.print(
        f"\nHydra's flags: --cfg job (show the config and exit), -m{example or ' (sweep)'}, --config-dir DIR\n"
        "(your own YAML files; a folder named conf in the working directory needs no flag), --info, --hydra-help.",
        markup=False,
        soft_wrap=not out.is_terminal,
    )


def _keys_in_columns(keys: Sequence[tuple[str, str, str]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    table.add_column(no_wrap=True)  # so that keys can be copied
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for key, value, comment in keys:
        table.add_row(f"[cyan]{escape(key)}[/]", f"[green]{escape(value)}[/]", f"[dim]{escape(comment)}[/]")
    out.print(table)


def _keys_in_lines(keys: Sequence[tuple[str, str, str]]) -> None:
    """For narrow terminals: a line with the key and its value, and the comment below it."""
    for key, value, comment in keys:
        out.print(f"  [cyan]{escape(key)}[/]=[green]{escape(value)}[/]", soft_wrap=not out.is_terminal)
        if comment:
            out.print(Padding(f"[dim]{escape(comment)}[/]", (0, 0, 0, 6)))


NUMBERS = ("nan", "inf", "null")
"""Words that stand for a number."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column has names. A column of numbers is aligned to the right, one with words is not."""
    out.print(f" [bold]{escape(title)}[/]", soft_wrap=not out.is_terminal)
    shown = Table(header_style="dim", box=SIMPLE_HEAD)
    for i, name in enumerate(columns):
        words = i == 0 or any(row[i][:1].isalpha() and row[i] not in NUMBERS for row in rows)
        shown.add_column(escape(name), justify="left" if words else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(escape(printable(cell)) for cell in row))  # a line each
    natural = out.measure(shown, options=out.options.update(max_width=WIDEST)).maximum
    # wider than the terminal rather than with a number cut
    wide = Console(file=out.file, force_terminal=out.is_terminal, width=max(out.width, natural), highlight=False)
    wide.print(shown)


def show_config(config: Mapping[str, Any], given: Collection[str], title: str) -> None:
    """Print a tree of the keys that the user set and of every group.

    Args:
        given: dotted keys and groups; `ckpt` is always shown.
    """
    tree = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    shown = {"ckpt", *(key.partition(".")[0] for key in given)}
    _branch(tree, {key: value for key, value in config.items() if isinstance(value, Mapping) or key in shown})
    out.print(tree, soft_wrap=not out.is_terminal)


def show_choices(config: Mapping[str, Any], given: Collection[str], title: str, whole: str) -> None:
    """Print the choice of each group, and the keys that the user set.

    Args:
        given: dotted keys and groups.
        whole: the file with the whole config.
    """
    tree = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    width = max((len(name) for name, node in config.items() if isinstance(node, Mapping)), default=0)
    for name, node in config.items():
        chosen = [key for key in given if key.partition(".")[0] == name and key != name]
        keys = "".join(f"  {escape(key.partition('.')[2])}: [green]{escape(_text(config, key))}[/]" for key in chosen)
        if isinstance(node, Mapping):
            target = str(node.get("_target_") or ", ".join(node) or "none").rpartition(".")[2]
            tree.add(f"[bold cyan]{escape(name):{width}}[/]  {escape(target)}{keys}")
        elif name in given:
            tree.add(f"{escape(name)}: [green]{escape(_text(config, name))}[/]")
    tree.add(f"[dim]all settings: {escape(whole)}, or --cfg job[/]")
    out.print(tree, soft_wrap=not out.is_terminal)


def _text(config: Mapping[str, Any], key: str) -> str:
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return _shown(value)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _branch(tree: Tree, node: Mapping[str, Any]) -> None:
    plain = [k for k, v in node.items() if not isinstance(v, Mapping)]
    for key in [*plain, *(k for k in node if k not in plain)]:
        value = node[key]
        if isinstance(value, Mapping):
            target = str(value.get("_target_", "")).rpartition(".")[2] if value else "none"
            branch = tree.add(f"[bold cyan]{escape(key)}[/] [dim]{escape(target)}[/]")
            _branch(branch, value)
        elif key not in ("_target_", "_partial_"):
            tree.add(f"{escape(key)}: [green]{escape(_shown(value))}[/]")
