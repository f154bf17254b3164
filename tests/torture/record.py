"""What was tried so far, a row for each part of a torture, so that it can be stopped and continued.

`python -m tests.torture.record` prints the sums; the rows lie in outputs/torture.jsonl.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = Path(os.environ.get("TORTURE_RECORD", ROOT / "outputs/torture.jsonl"))


def add(what: str, **facts: Any) -> None:
    """Append a row. facts: trials, wrong, seconds, the seed that repeats it, and what else is counted."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    row = {"what": what, "date": time.strftime("%Y-%m-%d"), **facts}
    with FILE.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(row)}\n")


def rows(what: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows so far, of one part or of all."""
    if FILE.exists():
        for line in FILE.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if what in (None, row["what"]):
                yield row


def trials(what: str) -> int:
    """How many trials of a part there were."""
    return sum(int(row["trials"]) for row in rows(what))


def main() -> int:
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows():
        for key in row.keys() - {"what", "date", "seed"}:
            sums[row["what"]][key] += row[key]
    for what, counted in sums.items():
        facts = [f"{counted.pop(key, 0):.0f} {key}" for key in ("trials", "wrong")]
        sys.stdout.write(f"{what}: {', '.join(facts + [f'{n:.0f} {key}' for key, n in counted.items()])}\n")
    return int(any(counted["wrong"] for counted in sums.values()))


if __name__ == "__main__":
    sys.exit(main())
