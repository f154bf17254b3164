"""Usage, help, tables of numbers and the config as a tree."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from .lines import out

WIDEST = 1000
"""More characters than any table has."""


def usage(commands: Mapping[str, str]) -> None:
    """What `ddpm` alone answers."""
    out.print("[bold]ddpm[/]: train, sample and animate diffusion models from composed YAML\n")
    out.print("usage: ddpm COMMAND [group=choice ...] [key=value ...] [-m]\n", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
    for name, about in commands.items():
        table.add_row(f"[bold]{name}[/]", escape(about))
    out.print(table)
    out.print(
        "\nexamples:\n"
        "  ddpm train                                  handwritten digits, a minute or two on a laptop\n"
        "  ddpm train dataset=image_folder dataset.root=pictures dataset.size=64\n"
        "  ddpm train -m schedule=linear,cosine        a sweep: one run directory each\n"
        "  ddpm sample n=64                            from the newest run; ckpt=RUN picks another\n"
        "  ddpm gif                                    its denoising as an animation\n"
        "\n'ddpm COMMAND --help' shows every group and key, '--cfg job' the composed config.\n"
        'Tab completion for bash: eval "$(ddpm -sc install=bash)"',
        markup=False,
        soft_wrap=True,
    )


class Help(NamedTuple):
    """groups: (name, choices, those taken). keys: (dotted name, value, comment)."""

    command: str
    about: str
    groups: list[tuple[str, list[str], list[str]]]
    keys: list[tuple[str, str, str]]


def show_help(about: Help) -> None:
    """Groups with their choices, the one taken in bold; then keys, values and what they mean."""
    out.print(f"[bold]ddpm {about.command}[/]: {escape(about.about)}\n", soft_wrap=True)
    out.print(f"usage: ddpm {about.command} [group=choice ...] [key=value ...] [-m]\n", markup=False)
    out.print("[bold]groups[/] (group=choice; the one taken now is marked)")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for group, choices, taken in about.groups:
        marked = (f"[bold green]*{escape(c)}[/]" if c in taken else escape(c) for c in choices)
        table.add_row(f"[cyan]{group}[/]", "  ".join(marked))
    out.print(table)
    out.print("\n[bold]keys[/] (key=value)")
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 2))
    table.add_column(no_wrap=True)  # a key must be whole to be copied
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for key, value, comment in about.keys:
        table.add_row(f"[cyan]{escape(key)}[/]", f"[green]{escape(value)}[/]", f"[dim]{escape(comment)}[/]")
    out.print(table)
    out.print(
        "\nHydra's flags: --cfg job (show the config and stop), -m (sweep: schedule=linear,cosine),\n"
        "--config-dir DIR (YAML of your own; a folder named conf beside you needs no flag), --info, --hydra-help.",
        markup=False,
        soft_wrap=True,
    )


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures: the first column says what, the others are numbers."""
    shown = Table(title=escape(title), title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD)
    for i, name in enumerate(columns):
        shown.add_column(escape(name), justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    natural = out.measure(shown, options=out.options.update(max_width=WIDEST)).maximum
    # wider than the terminal rather than cut: a figure must be whole
    out.print(shown, width=max(out.width, natural), crop=False, no_wrap=True, overflow="ignore")


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
