"""What the subfolders of a folder of pictures mean: classes, or the splits train, val and test with classes below.

The rules, in this order:

1. A folder of the first level called train (or training) beside val, valid, validation, test or testing: these are
   splits. Other pictures are left out.
2. At least two folders of the first level hold pictures, and not more pictures lie beside them than in them: they are
   classes. Pictures beside them are left out.
3. Otherwise there are no classes.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..progress import plural
from ..text import named, printable
from .listing import Found, find_pictures

Parts = tuple[str, ...]
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PICTURES = {"images", "image", "imgs", "img", "pictures", "photos", "jpegimages"}
ANNOTATIONS = {"masks", "mask", "labels", "label", "annotations", "segmentation", "segmentations", "gt", "depth"}
ROOT = "dataset.root"


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder and what they are.

    Args:
        files: those that are used, sorted by path.
        names: the classes, sorted; empty if there are none.
        labels: the class of each file, 0 if there are none.
        splits: "train", "val" or "test" for each file, if folders say so; else None.
        lines: what was understood or left out, for the user.
    """

    root: Path
    files: list[Path]
    names: tuple[str, ...]
    labels: list[int]
    splits: list[str] | None = None
    lines: tuple[str, ...] = field(default=(), repr=False)

    def relative(self, file: Path) -> str:
        """The path of a file below the root, with slashes."""
        return "/".join(file.parts[len(self.root.parts) :])


def list_folder(root: Path) -> Listing:
    """Everything that is known of the pictures below `root` without opening them. Raises as `find_pictures`."""
    found = find_pictures(root)
    parts = found.relative
    first = Counter(p[0] for p in parts if len(p) > 1)
    lines = list(found.lines())
    splits = {name: SPLITS[name.lower()] for name in first if name.lower() in SPLITS}
    if "train" in splits.values() and len(set(splits.values())) > 1:
        return _with_splits(found, parts, splits, lines)
    keep, names, more = _classes(parts, root, found)
    return _listing(found, keep, names, [parts[i][0] for i in keep] if names else [], None, [*lines, *more])


def _with_splits(found: Found, parts: Sequence[Parts], splits: dict[str, str], lines: list[str]) -> Listing:
    inside = [i for i, p in enumerate(parts) if len(p) > 1 and p[0] in splits]
    of = {i: splits[parts[i][0]] for i in inside}
    if len(inside) < len(parts):
        rest = [parts[i][0] for i in range(len(parts)) if i not in of]
        where = sorted(set(rest))
        lines.append(f"left out {plural(len(rest), 'picture')} beside the folders of the splits: {named(where)}")
    training = [i for i in inside if of[i] == "train"]
    kept, names, more = _classes([parts[i][1:] for i in training], found.root, found)
    keep = [training[k] for k in kept]
    others = [i for i in inside if of[i] != "train"]
    if names:
        unknown = [i for i in others if parts[i][1] not in names or len(parts[i]) < 3]
        lines += _unknown(unknown, parts, of)
        others = [i for i in others if i not in set(unknown)]
    keep = sorted([*keep, *others])
    counts = Counter(of[i] for i in keep)
    sizes = ", ".join(f"{name} ({counts[of_name]:,})" for name, of_name in sorted(splits.items()) if counts[of_name])
    lines.append(f"these folders are splits, not classes: {sizes}")
    labels = [parts[i][1] for i in keep] if names else []
    return _listing(found, keep, names, labels, [of[i] for i in keep], [*lines, *more])


def _unknown(files: Sequence[int], parts: Sequence[Parts], of: dict[int, str]) -> list[str]:
    counts = Counter(of[i] for i in files)
    return [
        f"left out {plural(n, 'picture')} of {split} that {'is' if n == 1 else 'are'} in no class of train: "
        + named(sorted({"/".join(parts[i][:2]) for i in files if of[i] == split}))
        for split, n in sorted(counts.items())
    ]


def _classes(parts: Sequence[Parts], root: Path, found: Found) -> tuple[list[int], list[str], list[str]]:
    """The indices of the pictures to keep, the classes, and lines. See rules 2 and 3."""
    everything = list(range(len(parts)))
    stray = [i for i in everything if len(parts[i]) == 1]
    inside = Counter(p[0] for p in parts if len(p) > 1)
    names = sorted(inside)
    if len(names) < 2:
        return everything, [], _within(parts, names)
    if len(stray) > inside.total():
        line = f"the folders {named(names)} are no classes, because more pictures lie beside them than in them"
        return everything, [], [line]
    lines = []
    if stray:
        files = [parts[i][0] for i in stray]
        lines.append(f"left out {plural(len(stray), 'picture')} beside the class folders: {named(files)}")
    lowered = {name.lower() for name in names}
    if lowered <= SPLITS.keys():
        lines.append(f"the folders {named(names, 5)} are taken as classes; for splits, name one of them train")
    if lowered & ANNOTATIONS and lowered & PICTURES:
        folder = next(name for name in names if name.lower() in PICTURES)
        lines.append(
            f"the folders {named(names, 5)} are taken as classes; if {printable(folder)} has the pictures, "
            f"set {ROOT}={printable(str(root / folder))}"
        )
    return [i for i in everything if len(parts[i]) > 1], names, lines


def _within(parts: Sequence[Parts], names: Sequence[str]) -> list[str]:
    """A line if the only folder has folders that could be classes."""
    if len(names) != 1 or any(len(p) == 1 for p in parts):
        return []
    deeper = {p[1] for p in parts if len(p) > 2}
    if len(deeper) < 2:
        return []
    return [
        f"no classes, as there is a single folder, {printable(names[0])}; {ROOT}=.../{printable(names[0])} has some"
    ]


def _listing(
    found: Found,
    keep: Sequence[int],
    names: Sequence[str],
    labels: Sequence[str],
    splits: list[str] | None,
    lines: Collection[str],
) -> Listing:
    number = {name: i for i, name in enumerate(names)}
    numbers = [number[label] for label in labels] if names else [0] * len(keep)
    files = [found.pictures[i] for i in keep]
    return Listing(found.root, files, tuple(names), numbers, splits, tuple(lines))
