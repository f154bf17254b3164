"""Files of tensors that are none, and pickles under every name: refused in one line, and nothing of them runs."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..conftest import Cli
from .conftest import JUDGED, OPENINGS
from .strangers import STEM, Stranger, check_answer


class Bomb:
    """Unpickling it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def head(text: str | bytes, length: int | None = None, data: bytes = b"") -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def one(**changes: Any) -> str:
    return json.dumps({"model.w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes})


HEADS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x08\0\0",
    "zero length": head(""),
    "too large": head("{}", 2**63),
    "all ones": b"\xff" * 8 + b"{}",
    "larger than the file": head("{}", 10**6),
    "100 MB": head(b" " * 1000, 10**8 + 1),
    "no JSON": head("no json"),
    "a list": head("[]"),
    "a number": head("1"),
    "null": head("null"),
    "deep": head('{"a":' * 50_000 + "1" + "}" * 50_000),
    "deep list": head("[" * 100_000),
    "not UTF-8": head(b'{"\xff": 1}'),
    "surrogate": head(one().replace("model.w", "\\ud800"), data=bytes(8)),
    "no tensors": head("{}"),
    "overlapping": head(
        '{"model.a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        '"model.b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}', data=bytes(12)
    ),
    "duplicate names": head(
        '{"model.a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        '"model.a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', data=bytes(16)
    ),
    "overflow": head(one(shape=[2**62, 2**62]), data=bytes(8)),
    "overflow of a product": head(one(shape=[2**32, 2**32, 0]), data=bytes(8)),
    "huge offsets": head(one(data_offsets=[0, 2**63]), data=bytes(8)),
    "beyond u64": head(one(data_offsets=[0, 2**64]), data=bytes(8)),
    "negative offsets": head(one(data_offsets=[-8, 0]), data=bytes(8)),
    "reversed offsets": head(one(data_offsets=[8, 0]), data=bytes(8)),
    "negative shape": head(one(shape=[-2]), data=bytes(8)),
    "shape of text": head(one(shape=["2"]), data=bytes(8)),
    "unknown type": head(one(dtype="OBJECT"), data=bytes(8)),
    "type null": head(one(dtype=None), data=bytes(8)),
    "rest of data": head(one(), data=bytes(100)),
    "missing data": head(one(), data=bytes(4)),
    "a hole": head(one(data_offsets=[4, 12]), data=bytes(12)),
    "metadata": head('{"__metadata__":{"x":1},' + one()[1:], data=bytes(8)),
    "metadata of lists": head('{"__metadata__":{"x":[]}}'),
    "other tensors": head(one(), data=bytes(8)),
    "long name": head(one().replace("model.w", "m" * 10**6), data=bytes(8)),
    "escape codes": head(one().replace("model.w", "model.\\u001b[31m"), data=bytes(8)),
    "not finite": head(one(), data=struct.pack("<ff", float("nan"), float("inf"))),
    "many names": head(json.dumps({f"model.{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)})),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("opening", ["sample", "finetune"])
def test_heads(opening: str, name: str, guarded: Cli, stranger: Stranger) -> None:
    stranger.put_tensors(HEADS[name])
    check_answer(guarded(*OPENINGS[opening]), 2, 4)


def zipped(name: str, raw: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, raw)
    return file.getvalue()


def tarred(name: str, raw: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(raw)
        archive.addfile(info, io.BytesIO(raw))
    return file.getvalue()


def saved(save: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


PICKLE = pickle.dumps(Bomb())
BOMBS: dict[str, bytes] = {
    "pickle 0": pickle.dumps(Bomb(), 0),
    "pickle 2": pickle.dumps(Bomb(), 2),
    "pickle 5": PICKLE,
    "state": pickle.dumps({"model.w": Bomb()}),
    "torch": saved(lambda file: torch.save({"model": Bomb()}, file)),
    "old torch": saved(lambda file: torch.save({"model": Bomb()}, file, _use_new_zipfile_serialization=False)),
    "npy": saved(lambda file: np.save(file, objects(Bomb()), allow_pickle=True)),
    "npz": saved(lambda file: np.savez(file, arr_0=objects(Bomb()), allow_pickle=True)),
    "npz of labels": saved(
        lambda file: np.savez(file, arr_0=np.zeros((2, 8, 8, 1), np.uint8), arr_1=objects(Bomb(), Bomb()))
    ),
    "zip": zipped("data.pkl", PICKLE),
    "zip as npz": zipped("arr_0.npy", PICKLE),
    "tar": tarred("data.pkl", PICKLE),
    "python": b"import os; os.system('touch ran')",
    "script": b"#!/bin/sh\ntouch ran\n",
    "head of safetensors": head(one(), data=PICKLE),
}
FACED = ("safetensors", "json", "pt", "pth", "ckpt", "npz", "bin", "png")


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_instead_of_tensors(
    name: str, guarded: Cli, stranger: Stranger, judge: Stranger, tmp_path: Path
) -> None:
    for run in (stranger, judge):
        run.put_tensors(BOMBS[name])
    for arguments in (OPENINGS["sample"], OPENINGS["finetune"], JUDGED["eval"]):
        check_answer(guarded(*arguments), 4)
    check_answer(guarded("eval", "ckpt=run", "features=judge", "metrics=[cas]", "out=o"), 4)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_under_other_names(name: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for suffix in FACED:
        (tmp_path / f"plain/{STEM}.{suffix}").write_bytes(BOMBS[name])
    for suffix in FACED[:4]:
        check_answer(guarded("sample", f"ckpt=plain/{STEM}.{suffix}", "out=o"), 4)
    check_answer(guarded("sample", "ckpt=plain", "out=o"), 4)
    check_answer(guarded("sample", "ckpt=run", "n=1", f"init=plain/{STEM}.png", "out=o"), 3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_as_samples(name: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn/samples.npz").write_bytes(BOMBS[name])
    for samples in ("drawn", "drawn/samples.npz"):
        check_answer(guarded("eval", "ckpt=run", f"samples={samples}", "metrics=[memorisation]", "out=o"), 3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_what_was_drawn_before(name: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    """The hidden folder of a command that was stopped."""
    digest = None
    assert guarded(*OPENINGS["sample"]).code == 0
    parts = tmp_path / "o/.drawn"
    parts.mkdir(exist_ok=True)
    (parts / "0000000.npy").write_bytes(BOMBS[name])
    (parts / "request.json").write_text(json.dumps({"digest": digest}))
    check_answer(guarded(*OPENINGS["sample"]), 0)
    assert not (tmp_path / "ran").exists()


def npy(shape: str, descr: str = "|u1", data: bytes = b"") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def deflated(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members:
            archive.writestr(name, raw)
    return file.getvalue()


SAMPLES: dict[str, Callable[[], bytes]] = {
    "terabytes promised": lambda: zipped("arr_0.npy", npy("(1000000000, 100, 100, 1)")),
    "overflow": lambda: zipped("arr_0.npy", npy("(4611686018427387904, 4, 4, 1)")),
    "negative": lambda: zipped("arr_0.npy", npy("(-1, 8, 8, 1)")),
    "code in the head": lambda: zipped("arr_0.npy", npy("(__import__('os').system('touch ran'),)")),
    "deep head": lambda: zipped("arr_0.npy", npy("(" * 5000 + ")" * 5000)),
    "structured": lambda: zipped("arr_0.npy", npy("(2,)", "V1000000000")),
    "texts": lambda: saved(lambda file: np.savez(file, arr_0=np.array(["a", "b"]))),
    "floats": lambda: saved(lambda file: np.savez(file, arr_0=np.zeros((2, 8, 8, 1)))),
    "no images": lambda: saved(lambda file: np.savez(file, arr_0=np.zeros((0, 8, 8, 1), np.uint8))),
    "flat": lambda: saved(lambda file: np.savez(file, arr_0=np.zeros((4, 0, 8, 1), np.uint8))),
    "wrong labels": lambda: saved(
        lambda file: np.savez(file, arr_0=np.zeros((2, 8, 8, 1), np.uint8), arr_1=np.array([2**62, -5]))
    ),
    "large unsigned labels": lambda: saved(
        lambda file: np.savez(file, arr_0=np.zeros((2, 8, 8, 1), np.uint8), arr_1=np.array([2**64 - 1, 0], np.uint64))
    ),
    "compressed well": lambda: deflated(("arr_0.npy", npy("(30, 10000, 100, 1)", data=bytes(30_000_000)))),
    "paths": lambda: deflated(("../arr_0.npy", npy("(1,)", data=b"x")), ("/etc/arr_0.npy", b"x")),
    "two of a name": lambda: deflated(("arr_0.npy", b"x"), ("arr_0", b"y")),
    "not closed": lambda: deflated(("arr_0.npy", npy("(2, 8, 8, 1)", data=bytes(128))))[:-30],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_that_are_none(name: str, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "s.npz").write_bytes(SAMPLES[name]())
    check_answer(guarded("eval", "ckpt=run", "samples=s.npz", "metrics=[memorisation]", "out=o"))
    assert not (tmp_path / "ran").exists()


FACTS: list[Any] = [[], None, 1, {"n": 2}, {"n": 2, "seeds": "x"}, {"n": 2, "sampler": "\x1b[31m"}, {"n": 2, "task": []},
                    {"n": 2, "classes": [1], "seeds": []}]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FACTS)))
def test_facts_beside_samples(number: int, guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/samples.npz", arr_0=np.zeros((2, 8, 8, 1), np.uint8))
    (tmp_path / "d/sample.json").write_text(json.dumps(FACTS[number]))
    check_answer(guarded("eval", "ckpt=run", "samples=d", "metrics=[memorisation]", "out=o"))
    check_answer(guarded("table", "of=o", "out=t"))


def test_a_bomb_as_a_sample_json(guarded: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d/samples.npz", arr_0=np.zeros((2, 8, 8, 1), np.uint8))
    for raw in (PICKLE, b"[" * 200_000, b"\xff\xfe", b'{"n": 1e400}'):
        (tmp_path / "d/sample.json").write_bytes(raw)
        check_answer(guarded("eval", "ckpt=run", "samples=d", "metrics=[memorisation]", "out=o"))
