"""ddpm bench what=samplers: the errors of samplers on a model that is known exactly."""

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
from ..progress import Progress
from ..render.plots.samplers import samplers_plot
from ..runs.assemble import network_calls
from ..runs.job import Job

EXACT = 5
"""Sets of exact points, whose errors are luck alone."""
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
    out: str = ""
    trust: list[str] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_positive(steps=min(self.steps, default=0))
        if self.n < 2:
            raise ConfigError(f"n: must be at least 2, to have a covariance, got {self.n}")


class SamplerErrors(NamedTuple):
    """Of one sampler with so many steps, as `metrics.points` has them."""

    sampler: str
    steps: int
    calls: int
    mean: float
    covariance: float
    distance: float


@dataclass(frozen=True)
class SamplersReport:
    """exact: errors of sets of exact points. protocol: how all were drawn."""

    found: list[SamplerErrors]
    exact: list[SamplerErrors]
    protocol: Mapping[str, Any]
    schedule: str

    @property
    def title(self) -> str:
        return f"errors of {self.protocol['n']:,} points; exact: {EXACT} sets of exact ones"

    @property
    def columns(self) -> list[str]:
        return ["sampler", "steps", "calls", "mean", "covariance", "sliced W2"]

    @property
    def rows(self) -> list[list[str]]:
        return [_text(errors) for errors in (*self.found, *self.exact)]

    def write(self, folder: Path) -> str:
        """`folder`/bench.json and samplers.png. Returns what to tell the user."""
        exact, rows = ([errors._asdict() for errors in some] for some in (self.exact, self.found))
        write_json(folder / "bench.json", {"exact": exact, "rows": rows, "protocol": self.protocol})
        curves: dict[str, list[tuple[int, float]]] = {}
        for errors in self.found:
            curves.setdefault(errors.sampler, []).append((errors.calls, errors.distance))
        band = (min(e.distance for e in self.exact), max(e.distance for e in self.exact))
        title = f"{self.protocol['mixture']}, {self.schedule}, {self.protocol['n']:,} points"
        samplers_plot(folder / "samplers.png", curves, band, title)
        return f"figures in {shown(folder)}/bench.json, plot in {shown(folder)}/samplers.png"


class Benchmark:
    """Every sampler on an exact model.

    Raises:
        ConfigError: an unknown mixture or sampler, more steps than the schedule has.
    """

    def __init__(self, options: Options, job: Job):
        self.options, self.job = options, job
        self.truth, nodes = mixture_of(options.mixture), job.choices("sampler")
        chosen = dict.fromkeys(options.samplers or nodes)  # named twice is drawn once
        self.samplers = [
            (name, steps, _sampler(name, steps, nodes, options.schedule))
            for name in chosen
            for steps in dict.fromkeys(options.steps)
        ]

    def __call__(self, progress: Progress) -> SamplersReport:
        options, truth, seed = self.options, self.truth, self.options.seed
        points = [truth.sample(options.n, _generator(seed + 3 + i)) for i in range(EXACT)]
        exact = [_errors("exact", 0, 0, some, truth, seed) for some in points]
        found = []
        for i, (name, steps, sampler) in enumerate(self.samplers, start=1):
            drawn = _draw(sampler, truth, options.schedule, options.n, seed)
            found.append(_errors(name, steps, network_calls(sampler, options.schedule), drawn, truth, seed))
            progress("drawing", i, len(self.samplers))
        schedule = dict(self.job.config["schedule"])
        protocol = {"mixture": options.mixture, "schedule": schedule, "n": options.n, "seed": seed}
        return SamplersReport(found, exact, protocol, type(options.schedule).__name__)


def _text(errors: SamplerErrors) -> list[str]:
    counts = [str(v) if v else "" for v in (errors.steps, errors.calls)]
    return [errors.sampler, *counts, *(f"{v:.4f}" for v in (errors.mean, errors.covariance, errors.distance))]


def _sampler(name: str, steps: int, nodes: Mapping[str, Node], schedule: Schedule) -> Sampler:
    """The shipped YAML, unclipped: the mixture has no bounds.

    Raises:
        ConfigError: a name that is not there, more steps than the schedule has.
    """
    if name not in nodes:
        raise ConfigError(f"samplers: there is no {name!r}; choose from {', '.join(nodes)}")
    sampler: Sampler = build({**nodes[name], "steps": steps, "clip": False}, "sampler")
    try:
        sampler.length(schedule)
    except ValueError as error:
        raise ConfigError(str(error)) from error  # the key is `steps` here, not `sampler.steps`
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
    """Raises ConfigError for an unknown one."""
    if name == "plane":
        return GaussianMixture.of([0.2, 0.3, 0.5], [[-0.7, 0.5], [0.6, 0.6], [0.1, -0.6]], [0.1, 0.25, 0.15])
    if name == "digits":
        return _digits()
    raise ConfigError(f"mixture: must be plane or digits, got {name!r}")


def _digits() -> GaussianMixture:
    """20 full components by EM on the first 16 principal components of the digits, in [-1, 1] pixels."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture as ByEM

    pixels = load_digits().data / 8 - 1
    points = PCA(DIMENSIONS, random_state=0).fit_transform(pixels)
    fitted = ByEM(COMPONENTS, random_state=0, reg_covar=1e-3).fit(points)
    return GaussianMixture(*(torch.from_numpy(v) for v in (fitted.weights_, fitted.means_, fitted.covariances_)))
