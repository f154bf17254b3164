"""A mask means what a person expects: white on black, a hole in a photo, or a drawing on a transparent sheet."""

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.sampling.inputs import marked

AREA = np.zeros((12, 10), bool)
AREA[3:7, 2:6] = True
PHOTO = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def rgba(colour: np.ndarray | int, alpha: np.ndarray) -> Image.Image:
    pixels = np.zeros((12, 10, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = alpha
    return Image.fromarray(pixels)


def palette(transparent: int | None) -> Image.Image:
    image = Image.fromarray(AREA.astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.putdata(AREA.astype(int).ravel().tolist())
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


WHITE = np.where(AREA, 255, 0).astype(np.uint8)
MASKS = {
    "white on black": Image.fromarray(WHITE),
    "white on black, in colour": Image.fromarray(np.repeat(WHITE[..., None], 3, 2)),
    "one bit": Image.fromarray(WHITE).convert("1"),
    "light and dark grey": Image.fromarray(np.where(AREA, 200, 60).astype(np.uint8)),
    "a hole in a photo": rgba(PHOTO, np.where(AREA, 0, 255)),
    "a soft hole in a photo": rgba(PHOTO, np.where(AREA, 20, 250)),
    "white on transparent": rgba(255, np.where(AREA, 255, 0)),
    "black on transparent": rgba(0, np.where(AREA, 255, 0)),
    "opaque, with alpha": rgba(np.repeat(WHITE[..., None], 3, 2), np.full((12, 10), 255)),
    "a palette": palette(None),
    "a palette whose black is transparent": palette(0),
    "16 bits": Image.fromarray(WHITE.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_area(name: str) -> None:
    area, how = marked(MASKS[name])
    assert (area == AREA).all(), how
    assert how == {
        "light and dark grey": "the part from half of white on",
        "a hole in a photo": "the transparent part",
        "a soft hole in a photo": "the transparent part",
        "white on transparent": "what is white",
        "black on transparent": "what is black",
        "a palette whose black is transparent": "what is white",
    }.get(name, "the white part")
