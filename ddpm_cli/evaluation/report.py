"""The output folder of `ddpm eval`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..files import write_sealed
from ..ours import check_folder, claim, complete, listed
from ..render.files import write_png
from ..render.plots.bound import plot_bound
from ..runs.loggers import TensorBoard, open_loggers
from ..sampling.bits import Bits
from ..sampling.folder import columns_of_samples, picture_of_samples
from .result import MetricResult
from .samples import SampleSet

TILES = 60
BOUND_ROWS = {
    "bound": "variational bound",
    "prior": "  L_T, prior",
    "denoising": "  sum of L_t-1, denoising",
    "reconstruction": "  L_0, reconstruction",
    "ode": "probability-flow ODE",
}
LATENT_ROWS = {
    "exact": "exact likelihood",
    "elbo": "evidence lower bound",
    "reconstruction": "  reconstruction",
    "kl": "  KL divergence",
    "iw_bound": "importance-weighted bound",
    "elbo_gmm": "evidence lower bound, mixture prior",
    "iw_bound_gmm": "importance-weighted bound, mixture prior",
}
"""Names of values in the table."""


class EvaluationFolder:
    """Pictures and eval.json, which is written last: if it exists, the folder is complete. Replaces an old evaluation.

    Raises:
        ConfigError: the folder has files, and none of them is ours.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        check_folder(folder, "eval.json", "out")

    def write(self, content: Mapping[str, Any], pictures: Mapping[str, Callable[[Path], None]]) -> None:
        """Raises ConfigError if a file that would be replaced is not ours."""
        claim(self.folder, ["eval.json", "tensorboard/", *pictures], "eval.json", "out")
        (self.folder / "eval.json").unlink(missing_ok=True)
        for name, draw in pictures.items():
            draw(self.folder / name)
        write_sealed(self.folder / "eval.json", content)
        complete(self.folder)

    def write_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the values for TensorBoard, into a subfolder. A failure is only logged: eval.json has the values."""
        loggers = open_loggers({"tensorboard": TensorBoard()}, self.folder, step, {}, required=False)
        loggers.scalars(step, {f"eval/{k.replace(' ', '_').replace(',', '')}": v for k, v in values.items()})
        loggers.close()

    def contents(self) -> str:
        """The names of the files in the folder."""
        names = {name.rstrip("/") for name in listed(self.folder)}
        return ", ".join(sorted(p.name for p in self.folder.iterdir() if p.name in names))


def bits_content(bits: Bits) -> dict[str, Any]:
    values = {name: value._asdict() for name, value in bits.values.items()}
    per_time = {"t": bits.times.tolist(), "bits": bits.each.tolist()}
    return {"bits_per_dim": values} | ({"per_time": per_time} if len(bits.times) else {})


def bits_rows(bits: Bits) -> list[list[str]]:
    """Name, bits per dimension, standard error."""
    names = BOUND_ROWS if "bound" in bits.values else LATENT_ROWS
    return [
        [names[name], f"{value.mean:.4f}", "" if value.error is None else f"{value.error:.4f}"]
        for name, value in bits.values.items()
    ]


def bits_pictures(bits: Bits, n: int) -> dict[str, Callable[[Path], None]]:
    """A plot of the bound over time, for models that have one. n: the number of images it was measured on."""
    if not len(bits.times):
        return {}
    means, protocol = {name: value.mean for name, value in bits.values.items()}, bits.protocol
    sampled = protocol["terms"] < protocol["steps"]
    note = f"{n} images; bound{_error(bits, 'bound')} from {protocol['terms']} of {protocol['steps']} terms per image"
    if "ode" in means:
        note += f", ODE{_error(bits, 'ode')} in {protocol['ode_steps']} steps"
    return {"bound.png": lambda path: plot_bound(path, bits.times, bits.each, means, note, sampled)}


def _error(bits: Bits, name: str) -> str:
    error = bits.values[name].error
    return "" if error is None else f" ± {error:.3f}"


def sample_pictures(samples: SampleSet) -> dict[str, Callable[[Path], None]]:
    """A grid of the first samples."""
    pixels, labels = samples.pixels[:TILES], None if samples.labels is None else samples.labels[:TILES]
    columns = columns_of_samples(labels, len(pixels), interpolated=False)
    names = None if samples.classes is None else samples.classes[:TILES]
    return {"samples.png": lambda path: write_png(path, picture_of_samples(pixels, columns, {}, names, labels))}


def scalars(bits: Bits | None, results: Mapping[str, MetricResult]) -> dict[str, float]:
    """All values by name."""
    bpd = {} if bits is None else {f"bits_per_dim/{name}": value.mean for name, value in bits.values.items()}
    return bpd | {name: value.estimate.value for r in results.values() for name, value in r.values.items()}
