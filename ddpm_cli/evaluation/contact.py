"""A contact sheet: pictures of several runs below each other, drawn from the same noise."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import CheckpointError, ConfigError, DataError, NonFiniteError
from ..progress import Progress
from ..render.caption import canvas, titled
from ..render.pixels import EDGE, as_rgb, default_scale, enlarge, grid
from ..sampling.generator import load_generator
from ..text import printable

log = logging.getLogger(__name__)
SEED = 0


class Sheet(NamedTuple):
    """picture: (H,W,C) uint8; runs: how many runs are on it."""

    picture: np.ndarray
    runs: int


def contact_sheet(names: Sequence[str], n: int, trust: Sequence[str], progress: Progress) -> Sheet | None:
    """A row of n pictures of each run, with its name above. None if no run draws pictures.

    Every run is sampled as it was told to, from the noise of the same seeds. Runs that draw none are left out with a
    line in the log.
    """
    rows = []
    for i, name in enumerate(names):
        try:
            run = load_generator(str(Path(name)), "ema", "auto", "auto", trust)
            images = run.sample(n=n, seed=SEED).images
        except (CheckpointError, ConfigError, DataError, NonFiniteError) as error:
            log.warning("left out of the contact sheet: %s", error)
        else:
            scale = default_scale(*images.shape[-2:])
            picture = enlarge(grid(images, n, background=EDGE), scale)
            rows.append(titled(as_rgb(picture), printable(name)))
        progress("drawing", i + 1, len(names))
    if not rows:
        return None
    sheet = canvas(sum(len(row) for row in rows), max(row.shape[1] for row in rows), 3)
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    return Sheet(sheet, len(rows))
