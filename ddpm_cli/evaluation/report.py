"""The folder that `ddpm eval` fills."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import write_json
from ..render.files import write_png
from ..render.plots.bound import plot_bound
from ..sampling.folder import picture_of_samples, row_of_samples
from .bits import Bits
from .finding import Finding
from .samples import Drawn

PICTURES = ("bound.png", "confusion.png", "mistakes.png", "pairs.png", "samples.png")
FILES = {"eval.json", "tensorboard", *PICTURES}
TILES = 60


class Report:
    """Pictures and, last of all, eval.json: with it, all is there. What an earlier evaluation left is replaced.

    Raises:
        ConfigError: the folder has files of something else.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if folder.is_dir() and any(p.name not in FILES for p in folder.iterdir()):
            raise ConfigError(f"out: {folder} has other files; name an empty or a new folder")

    def write(self, content: Mapping[str, Any], pictures: Mapping[str, Callable[[Path], None]]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("eval.json", *PICTURES):
            (self.folder / name).unlink(missing_ok=True)
        for name, paint in pictures.items():
            paint(self.folder / name)
        write_json(self.folder / "eval.json", content)

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """For TensorBoard, in a folder of their own."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder / "tensorboard")) as writer:
            for name, value in values.items():
                writer.add_scalar(f"eval/{name.replace(' ', '_').replace(',', '')}", value, step)

    def said(self) -> str:
        """The files that there are."""
        return ", ".join(sorted(p.name for p in self.folder.iterdir() if p.name in FILES))


def bits_content(bits: Bits) -> dict[str, Any]:
    figures = {name: figure._asdict() for name, figure in bits.figures.items()}
    per_time = {"t": bits.times.tolist(), "bits": bits.each.tolist()}
    return {"bits_per_dim": figures} | ({"per_time": per_time} if len(bits.times) else {})


def bits_pictures(bits: Bits, protocol: Mapping[str, Any], n: int) -> dict[str, Callable[[Path], None]]:
    """The bound over time, of a model that has one. protocol: that of the judge; n: how many images it saw."""
    if not len(bits.times):
        return {}
    means = {name: figure.mean for name, figure in bits.figures.items()}
    note = f"{n} images; bound{_give(bits, 'bound')} from {protocol['terms']} of {protocol['steps']} terms for each"
    if "ode" in means:
        note += f", ODE{_give(bits, 'ode')} in {protocol['ode_steps']} steps"
    return {"bound.png": lambda path: plot_bound(path, bits.times, bits.each, means, note)}


def _give(bits: Bits, name: str) -> str:
    error = bits.figures[name].error
    return "" if error is None else f" ± {error:.3f}"


def sample_pictures(drawn: Drawn) -> dict[str, Callable[[Path], None]]:
    """The first few."""
    pixels, labels = drawn.pixels[:TILES], None if drawn.labels is None else drawn.labels[:TILES]
    columns = row_of_samples(labels, len(pixels), along=False)
    return {"samples.png": lambda path: write_png(path, picture_of_samples(pixels, columns, {}))}


def scalars(bits: Bits | None, findings: Mapping[str, Finding]) -> dict[str, float]:
    """Every figure by name."""
    found = {} if bits is None else {f"bits_per_dim/{name}": figure.mean for name, figure in bits.figures.items()}
    return found | {name: row.estimate.value for f in findings.values() for name, row in f.rows.items()}
