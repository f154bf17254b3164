"""ddpm table."""

from dataclasses import dataclass, field
from pathlib import Path

from .. import console
from ..evaluation.entries import find, has_wildcard
from ..evaluation.tables import grouped, markdown, tables
from ..files import shown, write_atomically
from ..runs.job import Job


@dataclass(frozen=True, kw_only=True)
class Options:
    """See conf/table.yaml."""

    of: list[str] | str
    out: str | None = None
    trust: list[str] = field(default_factory=list)
    debug: bool = False


def run(options: Options, job: Job) -> None:
    """Show what compares side by side; write table.md into `out` when it is given."""
    names = [options.of] if isinstance(options.of, str) else options.of
    found, left_out = find(names, options.trust)
    if left_out:
        console.note(f"left out, without an accuracy yet: {', '.join(map(shown, left_out))}")
    parts, why = [found], ""
    if any(has_wildcard(name) for name in names):  # whoever names each folder wants one table or to know why not
        parts, why = grouped(found)
    made = [table for part in parts for table in tables(part)]
    for each in made:
        console.table(each.title, each.columns, each.rows)
    if len(parts) > 1:
        console.note(f"{len(parts)} groups, which do not compare: {why}")
    if options.out is not None:
        place = Path(options.out)
        place.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(markdown, made))
        write_atomically(place / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
        console.note(f"written to {shown(place)}/table.md")
