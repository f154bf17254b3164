"""Whether a resumed run still learns from the pictures that it began with."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.facts import DataFacts, digest_of
from ..data.images import Images
from ..errors import ConfigError, DataError
from ..files import read_json, shown, write_json
from ..progress import plural
from ..text import named
from .bounds import check_numbers
from .checkpoint import Checkpoint

log = logging.getLogger(__name__)
FILES = "data.json"
DECISIVE = ("val_fraction", "split_seed", "split_rule", "size", "channels", "crop", "range", "name")
"""Keys of a dataset that change the held-out pictures, whatever the files are."""
LISTED = 30
"""Classes that an error lists."""


def facts_of(images: Images) -> DataFacts:
    """What is known of the training images and, if they are files, of the held-out ones."""
    return images.facts or DataFacts.of_arrays(images.stored, images.labels)


def about(images: Images) -> dict[str, Any]:
    """The facts about the data that a checkpoint stores."""
    facts = facts_of(images)
    return {
        "shape": list(images.shape),
        "class_names": list(images.class_names),
        "images": len(images),
        "range": None if facts.ends is None else list(facts.ends),
        "data": {"pictures": facts.pictures, "digest": facts.digest},
    }


def check_opens(images: Images, config: Mapping[str, Any]) -> None:
    """Raises ConfigError for a config with which a run could be trained, but not opened again."""
    try:
        check_numbers(config, {"shape": list(images.shape), "class_names": list(images.class_names)})
    except ValueError as error:
        raise ConfigError(f"config: {error}; leave out what does not fit") from error


def write_files(folder: Path, images: Images) -> None:
    """Write the digest of every picture into the run directory, so that a later session can name what changed."""
    if images.facts is not None and images.facts.files:
        write_json(folder / FILES, {"digest": images.facts.digest, "files": images.facts.files})


def check_classes(start: Checkpoint | None, images: Images, config: Mapping[str, Any]) -> None:
    """Raises ConfigError if the model learns classes, and their numbers mean other classes than in `start`."""
    if start is None:
        return
    old, new = start.manifest.get("about", {}).get("class_names"), list(images.class_names)
    if not isinstance(old, list) or old == new or not learns_classes(config):
        return
    raise ConfigError(
        f"dataset: the classes are {_names(new)}, but {shown(start.path)} was trained with {_names(old)}; make the "
        "folders the same again, or set another run_dir (with finetune=RUN it takes over the weights, class by class)"
    )


def check_same_classes(trained: Sequence[str], images: Images, config: Mapping[str, Any]) -> None:
    """Raises DataError if images have other classes than those that a generator has learned, `trained`."""
    known = (
        "class_conditional" in config["model"]
        and len(images)
        and trained
        and images.class_names
        and learns_classes(config)
    )
    if known and tuple(trained) != tuple(images.class_names):
        raise DataError(
            f"root: the classes of the pictures are {_names(images.class_names)}, but the run was trained with "
            f"{_names(trained)}; name the folder that it was trained on"
        )


def learns_classes(config: Mapping[str, Any]) -> bool:
    """Whether the model of a config uses the classes, if there are any."""
    model = config["model"]
    return "num_classes" in model and model.get("class_conditional", True) is not False


def unlearned(config: Mapping[str, Any], images: Images) -> Iterator[str]:
    """A line if there are classes and the model does not learn them."""
    if images.classes and not learns_classes(config):
        can = "class_conditional" in config["model"]
        advice = "model.class_conditional=true learns them" if can else "this model cannot learn them"
        yield f"the {images.classes} classes are not learned; {advice}"


def changed(start: Checkpoint | None, images: Images, config: Mapping[str, Any]) -> bool:
    """Whether the pictures, or what is made of them, are others than those of `start`; that is then logged."""
    if start is None:
        return False
    facts, old = facts_of(images), start.manifest.get("about", {}).get("data")
    if not isinstance(old, Mapping) or old.get("digest") == facts.digest:
        return _chosen_otherwise(start, config["dataset"])
    now = f"{facts.pictures:,} now, {old.get('pictures'):,} before" if isinstance(old.get("pictures"), int) else ""
    difference = _difference(start.path.parent.parent / FILES, str(old.get("digest")), facts) or now
    log.warning(
        "the pictures have changed since step %d of %s: %s; validation losses and other values from before and after "
        "cannot be compared, and the best checkpoint is chosen from here on",
        start.step, shown(start.path.parent.parent), difference,
    )  # fmt: skip
    return True


def _chosen_otherwise(start: Checkpoint, now: Mapping[str, Any]) -> bool:
    """Whether a key of the dataset that decides what is held out, or what its pixels are, has changed."""
    before = start.manifest["config"].get("dataset")
    keys = [k for k in DECISIVE if isinstance(before, Mapping) and k in before and k in now and before[k] != now[k]]
    if keys:
        log.warning(
            "dataset.%s has changed since step %d; validation losses and other values from before and after cannot be "
            "compared, and the best checkpoint is chosen from here on", " and dataset.".join(keys), start.step,
        )  # fmt: skip
    return bool(keys)


def _difference(path: Path, digest: str, facts: DataFacts) -> str:
    """ "2 added, 1 removed, 0 edited", or "" if it is not known."""
    try:
        content = read_json(path)
        before = dict(content["files"])
        if content["digest"] != digest or digest_of(before) != digest:  # of another time, or damaged
            return ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    now = facts.files
    edited = sum(now[name] != before[name] for name in now.keys() & before.keys())
    added, removed = len(now.keys() - before.keys()), len(before.keys() - now.keys())
    return f"{added:,} added, {removed:,} removed, {edited:,} edited ({plural(facts.pictures, 'picture')})"


def _names(names: Sequence[str]) -> str:
    return f"[{named(list(map(str, names)), LISTED)}]"
