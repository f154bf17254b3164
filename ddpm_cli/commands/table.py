"""ddpm table."""

from pathlib import Path
from typing import Any

from .. import console
from ..errors import ConfigError
from ..evaluation.entries import Evaluation, Trained
from ..evaluation.tables import Table, grouped, tables
from ..files import shown, write_atomically

WILD = "*?["
JUDGE = "name the out folder of ddpm eval ckpt={}"


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    of: list[str] | str,
    out: str | None,
    trust: list[str],
    debug: bool,
) -> None:
    """Show what is comparable side by side; write table.md into `out` when it is given."""
    names = [of] if isinstance(of, str) else of
    found = entries(names, trust)
    parts: list[list[Evaluation | Trained]] = []
    why = ""
    if any(wild(name) for name in names):  # whoever names each folder wants one table or to know why not
        parts, why = grouped(found)
    made = [table for part in parts or [found] for table in tables(part)]
    for each in made:
        console.table(each.title, each.columns, each.rows)
    if len(parts) > 1:
        console.note(f"{len(parts)} groups, which do not compare: {why}")
    if out is not None:
        place = Path(out)
        place.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(markdown, made))
        write_atomically(place / "table.md", lambda path: path.write_text(text, encoding="utf-8"))
        console.note(f"written to {shown(place)}/table.md")


def entries(of: list[str], trust: list[str]) -> list[Evaluation | Trained]:
    """What lies at the paths and patterns, each folder once.

    Raises:
        ConfigError: a folder that is neither an evaluation nor a run of a classifier, or a pattern without any.
        CheckpointError, DataError: one that is damaged.
    """
    folders: list[Path] = []
    for text in of or [""]:
        if wild(text):
            there = _matching(Path(text))
            hits = [hit for hit in there if Evaluation.at(hit) or Trained.at(hit)]
            runs = [hit for hit in there if (hit / "config.json").is_file()]
            if runs and not hits:
                what = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
                raise ConfigError(f"of: {text} matches {what} that nobody has judged; {JUDGE.format(runs[0])}")
            if not hits:
                raise ConfigError(f"of: {text} matches no evaluation and no run of a classifier; check the pattern")
            early = [hit for hit in hits if not Evaluation.at(hit) and not Trained.measured(hit)]
            if 0 < len(early) < len(hits):  # who asks for all that there is need not hear of it in an error
                console.note(f"left out, without an accuracy yet: {', '.join(map(shown, early))}")
                hits = [hit for hit in hits if hit not in early]
            folders += hits
        else:
            folders.append(_one(text))
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    names = [f.resolve().name for f in distinct]
    if len(set(names)) < len(names):
        names = [str(f) for f in distinct]
    return [
        Evaluation.read(folder, name) if Evaluation.at(folder) else Trained.read(folder, name, trust)
        for folder, name in zip(distinct, names, strict=True)
    ]


def wild(text: str) -> bool:
    return any(c in text for c in WILD) and not Path(text).exists()


def _matching(pattern: Path) -> list[Path]:
    """In the order of their names."""
    anchor = Path(pattern.anchor or ".")
    return sorted(anchor.glob(str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern)))


def _one(text: str) -> Path:
    folder = Path(text)
    if not text or not folder.is_dir():
        raise ConfigError(
            f"of: {text or 'is empty'}: is no folder; name out folders of ddpm eval or runs of classifiers"
        )
    if Evaluation.at(folder) or Trained.at(folder):
        return folder
    if (folder / "config.json").is_file():
        raise ConfigError(f"of: {text} is a run that nobody has judged; {JUDGE.format(text)}")
    raise ConfigError(f"of: {text} has no eval.json; name out folders of ddpm eval or runs of classifiers")


def markdown(table: Table) -> str:
    """A heading and a pipe table, numbers to the right."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    return "\n".join([f"## {table.title}", "", line(table.columns), rule, *map(line, table.rows), ""])
