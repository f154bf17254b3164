"""ddpm bench what=samplers: the errors of samplers on an exactly known model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..build import Node, build, check_positive, check_seed
from ..diffusion.generate import run_sampler, start
from ..diffusion.oracle import GaussianMixture, Oracle
from ..diffusion.samplers import Sampler
from ..diffusion.schedule import Schedule
from ..errors import ConfigError
from ..files import shown, write_json
from ..metrics.points import covariance_error, mean_error, sliced_wasserstein
from ..ours import claim, complete
from ..progress import Progress
from ..render.plots.samplers import samplers_plot
from ..runs.assemble import network_calls
from ..runs.job import Job
from ..sampling.run_sampler import RUN_SAMPLER
from ..text import NameText, PathText

EXACT = 5
"""Number of sets of exact points; their errors are only sampling noise."""
COMPONENTS, DIMENSIONS = 20, 16


@dataclass(frozen=True, kw_only=True)
class Options:
    """See conf/what/samplers.yaml. Raises ConfigError for a number out of range."""

    schedule: Schedule
    mixture: str
    samplers: list[str] | None
    steps: list[int]
    n: int
    seed: int
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_positive(steps=min(self.steps, default=0))
        if self.n < 2:
            raise ConfigError(f"n: must be at least 2 to compute a covariance, got {self.n}")


class SamplerErrors(NamedTuple):
    """The errors of one sampler with a number of steps, see `metrics.points`."""

    sampler: str
    steps: int
    calls: int
    mean: float
    covariance: float
    distance: float


@dataclass(frozen=True)
class SamplersReport:
    """found: errors of the samplers. exact: errors of sets of exact points. protocol: how all were drawn."""

    found: list[SamplerErrors]
    exact: list[SamplerErrors]
    protocol: Mapping[str, Any]
    schedule: str

    @property
    def title(self) -> str:
        return f"errors of {self.protocol['n']:,} points; exact: {EXACT} sets drawn from the model itself"

    @property
    def columns(self) -> list[str]:
        return ["sampler", "steps", "calls", "mean", "covariance", "sliced W2"]

    @property
    def rows(self) -> list[list[str]]:
        return [_text(errors) for errors in (*self.found, *self.exact)]

    def write(self, folder: Path) -> str:
        """Write `folder`/bench.json and samplers.png. Returns a line for the user."""
        exact, rows = ([errors._asdict() for errors in group] for group in (self.exact, self.found))
        claim(folder, ["bench.json", "samplers.png"], "bench.json", "out")
        write_json(folder / "bench.json", {"exact": exact, "rows": rows, "protocol": self.protocol})
        curves: dict[str, list[tuple[int, float]]] = {}
        for errors in self.found:
            curves.setdefault(errors.sampler, []).append((errors.calls, errors.distance))
        band = (min(e.distance for e in self.exact), max(e.distance for e in self.exact))
        title = f"{self.protocol['mixture']}, {self.schedule}, {self.protocol['n']:,} points"
        samplers_plot(folder / "samplers.png", curves, band, title)
        complete(folder)
        return f"all values in {shown(folder)}/bench.json, plot in {shown(folder)}/samplers.png"


class Benchmark:
    """Measures every sampler on an exactly known model.

    Raises:
        ConfigError: an unknown mixture or sampler, or more steps than the schedule has.
    """

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job
        self.truth = mixture_of(options.mixture)
        nodes = {k: node for k, node in job.choices("sampler").items() if node["_target_"] != RUN_SAMPLER}
        chosen = dict.fromkeys(options.samplers or nodes)  # without duplicates
        self.samplers = [
            (name, steps, _sampler(name, steps, nodes, options.schedule))
            for name in chosen
            for steps in dict.fromkeys(options.steps)
        ]

    def __call__(self, progress: Progress) -> SamplersReport:
        options, truth, seed = self.options, self.truth, self.options.seed
        points = [truth.sample(options.n, _generator(seed + 3 + i)) for i in range(EXACT)]
        exact = [_errors("exact", 0, 0, exact_points, truth, seed) for exact_points in points]
        rows = []
        for i, (name, steps, sampler) in enumerate(self.samplers, start=1):
            drawn = _draw(sampler, truth, options.schedule, options.n, seed)
            rows.append(_errors(name, steps, network_calls(sampler, options.schedule), drawn, truth, seed))
            progress("sampling", i, len(self.samplers))
        schedule = dict(self.job.config["schedule"])
        protocol = {"mixture": options.mixture, "schedule": schedule, "n": options.n, "seed": seed}
        return SamplersReport(rows, exact, protocol, type(options.schedule).__name__)


def _text(errors: SamplerErrors) -> list[str]:
    counts = [str(v) if v else "" for v in (errors.steps, errors.calls)]
    return [errors.sampler, *counts, *(f"{v:.4f}" for v in (errors.mean, errors.covariance, errors.distance))]


def _sampler(name: str, steps: int, nodes: Mapping[str, Node], schedule: Schedule) -> Sampler:
    """The shipped sampler, without clipping, because the mixture is not bounded.

    Raises:
        ConfigError: an unknown name, or more steps than the schedule has.
    """
    if name not in nodes:
        raise ConfigError(f"samplers: there is no {name!r}; choose from {', '.join(nodes)}")
    sampler: Sampler = build({**nodes[name], "steps": steps, "clip": False}, "sampler")
    try:
        sampler.length(schedule)
    except ValueError as error:
        raise ConfigError(str(error)) from error  # here the key is `steps`, not `sampler.steps`
    return sampler


def _draw(sampler: Sampler, truth: GaussianMixture, schedule: Schedule, n: int, seed: int) -> Tensor:
    g = _generator(seed)
    x = torch.randn(n, truth.means.shape[1], generator=g, dtype=torch.float64)
    frames = run_sampler(
        Oracle(truth, schedule), schedule, sampler, start(schedule, x),
        lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype),
    )  # fmt: skip
    last = None
    for last in frames:  # noqa: B007
        pass
    assert last is not None
    return last.x


def _errors(name: str, steps: int, calls: int, points: Tensor, truth: GaussianMixture, seed: int) -> SamplerErrors:
    exact = truth.sample(len(points), _generator(seed + 2))
    return SamplerErrors(
        name,
        steps,
        calls,
        mean_error(points, truth.mean, truth.covariance),
        covariance_error(points, truth.covariance),
        sliced_wasserstein(points, exact),
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture_of(name: str) -> GaussianMixture:
    """The mixture of that name. Raises ConfigError for an unknown name."""
    if name == "plane":
        return GaussianMixture.of([0.2, 0.3, 0.5], [[-0.7, 0.5], [0.6, 0.6], [0.1, -0.6]], [0.1, 0.25, 0.15])
    if name == "digits":
        return _digits()
    raise ConfigError(f"mixture: must be plane or digits, got {name!r}")


def _digits() -> GaussianMixture:
    """20 full components, fitted by EM to the first 16 principal components of the digits, pixels in [-1, 1]."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture as FittedMixture

    pixels = load_digits().data / 8 - 1
    points = PCA(DIMENSIONS, random_state=0).fit_transform(pixels)
    fitted = FittedMixture(COMPONENTS, random_state=0, reg_covar=1e-3).fit(points)
    return GaussianMixture(*(torch.from_numpy(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_)))
