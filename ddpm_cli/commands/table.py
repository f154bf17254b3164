"""ddpm table."""

from dataclasses import dataclass, field
from pathlib import Path

from .. import console
from ..evaluation.entries import find, has_wildcard
from ..evaluation.tables import grouped, markdown, tables
from ..files import remove_parts, shown, write_atomically
from ..ours import SIGNATURE, check_signed
from ..runs.job import Job
from ..text import NameText, PathText


@dataclass(frozen=True, kw_only=True)
class Options:
    """See conf/table.yaml."""

    of: list[PathText] | PathText
    out: PathText | None = None
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False


def run(options: Options, job: Job) -> None:
    """Show evaluations side by side; write table.md into `out` if it is given."""
    names = [options.of] if isinstance(options.of, str) else options.of
    entries, left_out = find(names, options.trust)
    if left_out:
        console.note(f"skipped, no accuracy yet: {', '.join(map(shown, left_out))}")
    groups, reason = [entries], ""
    if any(has_wildcard(name) for name in names):  # folders named one by one must fit into one table, or it is an error
        groups, reason = grouped(entries)
    shown_tables = [table for group in groups for table in tables(group)]
    for table in shown_tables:
        console.table(table.title, table.columns, table.rows)
    if len(groups) > 1:
        console.note(f"{len(groups)} groups that cannot be compared with each other: {reason}")
    if options.out is not None:
        folder = Path(options.out)
        check_signed(folder / "table.md", "out")
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder, only={"table.md"})
        text = "\n".join([*map(markdown, shown_tables), f"<!-- {SIGNATURE.decode()} -->\n"])
        write_atomically(folder / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
        console.note(f"written to {shown(folder)}/table.md")
