"""Recognises pictures by their first bytes, and opens them, whatever their file is called."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, features

HEAD = 64
"""Bytes at the start of a file that tell its format."""
STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
PORTABLE = re.compile(rb"P[1-6](\s|#)[\s\d#]")
OPENED = ("JPEG", "MPO", "PNG", "GIF", "TIFF", "JPEG2000", "WEBP", "BMP", "PPM", "AVIF", "HEIF")
"""The formats that Pillow may open. For others it starts programs (EPS: Ghostscript), or guesses from few bytes."""
BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
AVIF, HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}


def format_of(head: bytes) -> str:
    """The format of a file that starts with these bytes: JPEG, PNG, ...; "" if it is no picture."""
    for start, name in STARTS.items():
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BITMAP_HEADERS:
        return "BMP"
    if PORTABLE.match(head):
        return "PNM"
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in (8, *range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4))}
        return "AVIF" if brands & AVIF else "HEIC" if brands & HEIF else ""
    return ""


def format_at(path: Path) -> str:
    """The format of the file at `path`; "" if it is no picture or cannot be read."""
    try:
        with path.open("rb") as file:
            return format_of(file.read(HEAD))
    except OSError:
        return ""


def missing_package(name: str) -> str:
    """The extra of this program that the format needs and that is not installed; "" if it can be read."""
    if name == "AVIF" and not _reads_avif():
        return "heif"
    return "heif" if name == "HEIC" and find_spec("pillow_heif") is None else ""


def lacking_package(path: Path) -> str:
    """What to install to read the picture at `path`, "it is HEIC; pip install ..."; "" if that would not help."""
    kind = format_at(path)
    extra = missing_package(kind)
    return f"it is {kind}; pip install 'ddpm-cli[{extra}]' to read it" if extra else ""


def _reads_avif() -> bool:
    """Whether Pillow itself reads AVIF: from 11.3 on, if it was built with it."""
    return "avif" in features.modules and bool(features.check("avif"))


@cache
def register() -> None:
    """Teach Pillow the formats of the extra `heif`, if it is installed."""
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        if not _reads_avif() and hasattr(pillow_heif, "register_avif_opener"):
            pillow_heif.register_avif_opener()


@cache
def _known() -> frozenset[str]:
    Image.init()
    return frozenset(Image.OPEN)


def opened(path: Path) -> Image.Image:
    """The picture at `path`, whose pixels are not read yet. Raises what Pillow raises."""
    register()
    return Image.open(path, formats=[name for name in OPENED if name in _known()])
