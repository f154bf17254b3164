"""Folders with a picture that was changed: PNG, JPEG, GIF, TIFF, WebP, BMP and their relatives."""

import io
import struct
import zlib
from functools import cache
from random import Random

import numpy as np

from .server import Case, text_of

FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "ICO", "TGA")
MODES = {"PNG": "1 L LA P RGB RGBA I;16", "JPEG": "L RGB CMYK", "GIF": "L P RGB", "TIFF": "1 L RGB RGBA I;16 I F CMYK"}
TRAIN = ("trainer.steps=1", "trainer.batch_size=2", "trainer.sample_every=0", "trainer.eval_every=0", "logger=none")
ENDS = {"JPEG": "jpg", "TIFF": "tif"}


def generate(rng: Random) -> Case:
    format_ = rng.choice(FORMATS)
    raw = _original(format_, rng.choice(MODES.get(format_, "RGB").split()), rng.choice((1, 1, 3)))
    for _ in range(rng.choices((1, 2, 5), (6, 3, 1))[0]):
        raw = _changed(rng, raw, format_)
    end = ENDS.get(format_, format_.lower())
    if rng.random() < 0.08:
        end = rng.choice(("png", "jpg", "gif", "tif", "webp", "bmp", "PNG", "txt", "eps", "npy"))
    picture = text_of(raw)
    if rng.random() < 0.25:
        key = rng.choice(("init={}", "init={} mask=good.png", "init=good.png mask={}", "between=[good.png,{}]"))
        files = {f"bad.{end}": picture, "good.png": text_of(_original("PNG", "L", 1))}
        return Case(
            ("sample", "ckpt=digits", "n=1", "sampler.steps=2", *key.format(f"bad.{end}").split()), files, ("digits",)
        )
    files = {f"pics/{i}.png": text_of(_original("PNG", "RGB", 1)) for i in range(3)} | {f"pics/bad.{end}": picture}
    more = [a for a in ("dataset.skip_damaged=true", "dataset.cache=here", "dataset.channels=1") if rng.random() < 0.25]
    if rng.random() < 0.1:
        more.append(
            rng.choice(("dataset.range=[0,100]", "dataset.range=full", "dataset.crop=none", "dataset.size=[8,16]"))
        )
    if not any("size" in m for m in more):
        more.append("dataset.size=8")
    small = ("model=unet_tiny", "model.channels=8", "dataset.val_fraction=0")
    return Case(("train", "dataset=image_folder", "dataset.root=pics", *more, *small, *TRAIN), files)


@cache
def _original(format_: str, mode: str, frames: int) -> bytes:
    from PIL import Image

    values = np.random.default_rng(frames).integers(0, 256, (frames, 14, 12, 3), dtype=np.uint8)
    pages = [Image.fromarray(v) for v in values]
    if mode == "I;16":
        pages = [Image.fromarray(v[..., 0].astype(np.uint16) * 200) for v in values]
    elif mode in ("I", "F"):
        pages = [Image.fromarray(v[..., 0].astype(np.int32 if mode == "I" else np.float32)) for v in values]
    else:
        pages = [p.convert(mode) for p in pages]
    file = io.BytesIO()
    many = (
        {"save_all": True, "append_images": pages[1:]}
        if frames > 1 and format_ in ("GIF", "TIFF", "WEBP", "PNG")
        else {}
    )
    pages[0].save(file, format_, **many)
    return file.getvalue()


def _changed(rng: Random, raw: bytes, format_: str) -> bytes:
    at = rng.randrange(max(len(raw), 1))
    if rng.random() < 0.5:
        at = min(at, rng.randrange(60))  # heads matter most
    kind = rng.choice(("flip", "byte", "cut", "zero", "drop", "double", "number", "tail", "chunk"))
    if kind == "flip":
        return raw[:at] + bytes([(raw[at : at + 1] or b"\0")[0] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
    if kind == "byte":
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if kind == "cut":
        return raw[:at]
    if kind == "zero":
        return raw[:at] + bytes(16) + raw[at + 16 :]
    if kind == "drop":
        return raw[:at] + raw[at + rng.choice((1, 4, 32)) :]
    if kind == "double":
        return raw[:at] + raw[at : at + 32] + raw[at:]
    if kind == "tail":
        return raw + bytes(rng.randrange(256) for _ in range(8))
    if kind == "chunk" and format_ == "PNG":
        return _sealed(rng, raw)
    order = rng.choice("<>")
    number = rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 30000, 65535, 100000))
    return raw[:at] + struct.pack(f"{order}I", number) + raw[at + 4 :]


def _sealed(rng: Random, raw: bytes) -> bytes:
    """A PNG with one chunk changed, whose check sum fits; or a new chunk."""
    chunks, at = [], 8
    while at + 12 <= len(raw):
        (size,) = struct.unpack(">I", raw[at : at + 4])
        if size > len(raw):
            break
        chunks.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return raw
    i = rng.randrange(len(chunks))
    name, body = chunks[i]
    if rng.random() < 0.5 and body:
        j = rng.randrange(len(body))
        chunks[i] = (name, body[:j] + bytes([rng.randrange(256)]) + body[j + 1 :])
    else:
        name = rng.choice(
            (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT", b"IEND")
        )
        chunks.insert(i, (name, bytes(rng.randrange(256) for _ in range(rng.choice((0, 4, 26))))))
    packed = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return raw[:8] + b"".join(packed)
