"""Batches that an interrupted command has kept: used only as they were written, and only where they belong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_cli.sampling.kept import Kept, KeptValues

SHAPE = (1, 2, 2)
REQUEST = {"seed": 0}


def batches(folder: Path, request: dict[str, int]) -> Path:
    kept = Kept(folder)
    kept.begin(request, 6, SHAPE)
    for first in (0, 2, 4):
        kept.add(first, torch.full((2, *SHAPE), first + request["seed"], dtype=torch.uint8))
    return folder / ".drawn"


def known(folder: Path) -> list[int]:
    """The values of the batches that are used again."""
    return [int(part[0, 0, 0, 0]) for part in Kept(folder).begin(REQUEST, 6, SHAPE)]


@pytest.mark.parametrize("damage", ["flip", "cut", "append", "swap", "other request", "delete"])
def test_damaged_batches_are_drawn_again(damage: str, tmp_path: Path) -> None:
    parts = batches(tmp_path / "a", REQUEST)
    assert known(tmp_path / "a") == [0, 2, 4]
    part, other = parts / "0000002.npy", parts / "0000004.npy"
    raw = part.read_bytes()
    if damage == "flip":
        part.write_bytes(raw[:130] + bytes([raw[130] ^ 4]) + raw[131:])
    elif damage == "cut":
        part.write_bytes(raw[:-1])
    elif damage == "append":
        part.write_bytes(raw + b"\0")
    elif damage == "swap":
        part.write_bytes(other.read_bytes())
    elif damage == "other request":
        shutil.copy(batches(tmp_path / "b", {"seed": 1}) / part.name, part)
    else:
        part.unlink()
    assert known(tmp_path / "a") == [0]


def test_the_pictures_of_kept_batches_are_written_again(tmp_path: Path) -> None:
    """Those that the stopped command wrote may be damaged or lost."""
    batches(tmp_path, REQUEST)
    written: list[int] = []
    kept = Kept(tmp_path, lambda first, images: written.append(first))
    kept.begin(REQUEST, 6, SHAPE)
    assert written == [0, 2, 4]


@pytest.mark.parametrize("damage", ["flip", "swap", "other request"])
def test_damaged_values_are_measured_again(damage: str, tmp_path: Path) -> None:
    def measured(folder: str, digest: str) -> list[float]:
        values, found = KeptValues(tmp_path / folder, digest), []
        for first in (0, 2):
            batch = values.batch(range(first, first + 2), lambda n=first: {"x": made(n)})  # type: ignore[misc]
            found.append(float(batch["x"][0]))
        return found

    def made(first: int) -> Tensor:
        computed.append(first)
        return torch.full((2,), float(first))

    computed: list[int] = []
    assert measured("a", "1") == measured("a", "1") == [0.0, 2.0] and computed == [0, 2]
    file, other = (tmp_path / f"a/000000{n}.npz" for n in (0, 2))
    raw = file.read_bytes()
    if damage == "flip":
        at = raw.index(np.float32(0).tobytes() * 2)
        file.write_bytes(raw[:at] + b"\1" + raw[at + 1 :])
    elif damage == "swap":
        file.write_bytes(other.read_bytes())
    else:
        measured("b", "2")
        shutil.copy(tmp_path / "b/0000000.npz", file)
        computed.clear()
        computed.extend([0, 2])
    assert measured("a", "1") == [0.0, 2.0] and computed == [0, 2, 0]
