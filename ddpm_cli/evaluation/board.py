"""Writes a list of runs into a folder: leaderboard.csv, and a contact sheet of their pictures."""

from collections.abc import Sequence
from pathlib import Path

from .. import ours
from ..files import shown, write_atomically
from ..progress import Progress, plural
from ..render.files import write_png
from .choosing import leaderboard
from .contact import contact_sheet
from .listing import Listed

BOARD, SHEET = "leaderboard.csv", "contact.png"


def write_board(
    folder: Path, runs: Sequence[Listed], key: str, samples: int, trust: Sequence[str], progress: Progress
) -> list[str]:
    """Write leaderboard.csv and, if samples > 0, contact.png. Returns a line for each.

    Args:
        key: the key that names the folder, for the error.
        samples: pictures of each run.

    Raises:
        ConfigError: one of them is there, and this program has not written it.
        OSError: `folder` cannot be written.
    """
    ours.claim(folder, {BOARD, SHEET} if samples else {BOARD}, BOARD, key)
    text = leaderboard(runs).encode("utf-8", "backslashreplace")
    write_atomically(folder / BOARD, lambda path: path.write_bytes(text))
    notes = [f"written to {shown(folder / BOARD)}"]
    if samples:
        names = [run.name for run in runs if run.step is not None]
        sheet = contact_sheet(names, samples, trust, progress)
        if sheet is None:
            return [*notes, "no contact sheet: none of these runs draws pictures"]
        write_atomically(folder / SHEET, lambda path: write_png(path, sheet.picture))
        notes.append(f"{plural(sheet.runs, 'run')} from the same noise in {shown(folder / SHEET)}")
    return notes
