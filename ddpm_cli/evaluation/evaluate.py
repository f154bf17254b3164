"""Runs `ddpm eval`: everything is loaded and checked first, then measured."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data.images import Images, pixels_sha256
from ..errors import ConfigError, DataError
from ..progress import Progress
from ..runs.images import RealImages
from ..runs.job import Job
from ..sampling.bits import Bits, BitsEvaluator
from ..sampling.kept import Kept
from ..sampling.request import Request
from .accuracy import accuracy
from .comparison import Comparison
from .options import EvalOptions
from .provenance import protocol_of
from .report import bits_content, bits_pictures, sample_pictures, scalars
from .result import MetricResult, records
from .sample_metrics import METRICS, check_feasible
from .samples import PendingSamples, SampleSet, pending, read
from .settings import settings_of
from .subject import Subject, chosen_metrics, load_subject

log = logging.getLogger(__name__)
BITS_IMAGES, SAMPLES = 256, 1000
NO_RUN = ("prior", "sampler", "guidance")
"""Keys that are not used when no model draws samples."""
Measure = Callable[[], None]


@dataclass
class Results:
    """Everything that was measured. images: the number of images used for bpd; title: of the table of `metrics`."""

    options: EvalOptions
    subject: Subject
    bits: Bits | None = None
    images: int = 0
    title: str = ""
    metrics: dict[str, MetricResult] = field(default_factory=dict)
    pictures: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def keep(self, results: dict[str, MetricResult], images: Images, samples: SampleSet) -> None:
        """Add results. images: the real images that the samples were compared with."""
        self.metrics |= results
        conditions = (self.subject.data, self.subject.extractor, self.options.split, images, samples)
        self.values |= records(results, lambda value: protocol_of(value, *conditions))
        for result in results.values():
            self.pictures |= result.pictures

    @property
    def scalars(self) -> dict[str, float]:
        return scalars(self.bits, self.metrics)

    def content(self, seconds: float) -> dict[str, Any]:
        """The content of eval.json."""
        options, subject = self.options, self.subject
        of_run = options.samples is None or self.bits is not None
        protocol = {
            **subject.facts,
            "model": subject.model if of_run else None,
            "settings": settings_of(subject.data.config) if of_run else None,
            "dataset": subject.data.config["dataset"].get("name"),
            "split": options.split,
            "batch_size": options.batch_size,
            "seed": options.seed,
            "seconds": seconds,
            **self.about,
        }
        bits = {} if self.bits is None else bits_content(self.bits)
        details = {k: v for result in self.metrics.values() for k, v in result.detail.items()}
        values = {"figures": self.values} if self.values else {}
        return {**bits, **values, **details, "protocol": protocol}


class Evaluator:
    """Loads the subject and all images when constructed; measures when called.

    Raises:
        CheckpointError, ConfigError, DataError: something cannot be measured.

    Args:
        kept: samples that an earlier call has drawn.
    """

    def __init__(self, options: EvalOptions, progress: Progress, kept: Kept | None = None):
        self.options, self.progress, self.kept = options, progress, kept
        self.subject = load_subject(options)
        self.chosen = chosen_metrics(options.metrics, self.subject, options.samples is not None)
        self.results = Results(options, self.subject)
        drawn = options.samples is None and any(name in METRICS for name in self.chosen)
        # first, because it needs no data: a wrong sampler is reported before data are read
        self.planned = self._plan(options.count(SAMPLES) or 1) if drawn else None
        parts = (self._accuracy(), self._bits(), self._samples())
        self.measures = [measure for measure in parts if measure is not None]

    def __call__(self) -> Results:
        for measure in self.measures:
            measure()
        return self.results

    def shown(self, job: Job) -> dict[str, Any]:
        """The config, without what is not used."""
        generator = self.subject.generator
        if job.sets("bpd") and "bpd" not in self.chosen:
            log.info("bpd: is not measured here, so its settings have no effect; metrics=[bpd] measures it")
        unused = {"bpd", "cas"} - {*self.chosen, *(key.partition(".")[0] for key in job.given)}
        unused |= set(NO_RUN) if generator is None else set()
        config = job.config if generator is None else generator.shown(job)
        return {key: value for key, value in config.items() if key not in unused}

    def _real(self, n: int | None) -> Images:
        images = self._images.held_out(self.options.split, n, self.options.seed)
        if n is not None and self.options.n != "auto" and len(images) < n:
            log.info("n: there are only %s %s images, not %s", f"{len(images):,}", self.options.split, f"{n:,}")
        return images

    @cached_property
    def _images(self) -> RealImages:
        return RealImages(self.subject.data, self.options.root, self.progress)

    def _accuracy(self) -> Measure | None:
        classifier, options = self.subject.classifier, self.options
        if classifier is None:
            return None
        images = self._real(options.count(None))

        def measure() -> None:
            result = accuracy(classifier, images, options, self.progress)
            self.results.keep({"accuracy": result}, images, SampleSet(images.pixels, None, self.subject.facts))
            self.results.title = f"{len(images)} {options.split} images"
            self.results.about |= {"n": len(images), "images_sha256": pixels_sha256(images.pixels)}

        return measure

    def _bits(self) -> Measure | None:
        if "bpd" not in self.chosen or self.subject.generator is None:
            return None
        evaluator = self.subject.generator.bits_evaluator(self.options.bpd, self.options.seed)
        images = self._real(self.options.count(BITS_IMAGES))
        return lambda: self._measure_bits(evaluator, images)

    def _measure_bits(self, evaluator: BitsEvaluator, images: Images) -> None:
        options, results, digest = self.options, self.results, pixels_sha256(images.pixels)
        request = {**self.subject.facts, "images": digest, "bpd": asdict(options.bpd)}
        request |= {"seed": options.seed, "batch_size": options.batch_size}
        kept = None if self.kept is None else self.kept.values(request)
        bits = evaluator(images, options.batch_size, self.progress, kept)
        results.bits, results.images = bits, len(images)
        results.pictures |= bits_pictures(bits, len(images))
        results.about |= {"n": len(images), "images_sha256": digest, "bpd": bits.protocol}

    def _samples(self) -> Measure | None:
        metrics = [name for name in self.chosen if name in METRICS]
        if not metrics:
            return None
        options, subject = self.options, self.subject
        images = self._real(options.real)
        ready = self._pending(images)
        train, unseen = self._images.split("train"), self._images.split("val")
        check_feasible(metrics, ready, images, unseen, subject.extractor, options.neighbours)

        def measure() -> None:
            samples = ready.draw(self.progress, self.kept)
            comparison = Comparison(samples, images, train, unseen, subject.extractor, options, self.progress)
            self._compare(metrics, comparison)

        return measure

    def _compare(self, metrics: Sequence[str], comparison: Comparison) -> None:
        results, samples, real = self.results, comparison.samples, comparison.real
        results.keep({name: _measured(name, comparison) for name in metrics}, real, samples)
        results.pictures |= sample_pictures(samples)
        results.title = f"{len(samples.pixels)} samples against {len(real)} {self.options.split} images"
        if self.subject.extractor is not None:
            kind, _, digest = self.subject.extractor.name.partition(" ")
            results.title += f", features of {kind} {digest[:8]}"
        results.about.setdefault("n", len(samples.pixels))
        results.about["samples"] = {"n": len(samples.pixels), **samples.facts}

    def _pending(self, images: Images) -> PendingSamples:
        """Samples of the images' shape, from files or to be drawn. Raises DataError, ConfigError."""
        options = self.options
        if options.samples is not None:
            samples = read(options.samples, options.count(None))
            if tuple(samples.pixels.shape[1:]) != images.shape:
                one, other = ("x".join(map(str, s)) for s in (samples.pixels.shape[1:], images.shape))
                raise DataError(
                    f"samples: have shape {one}, but the real images {other}; resize the samples to that shape"
                )
            return PendingSamples(len(samples.pixels), samples.labels, lambda progress, kept: samples)
        if options.count(SAMPLES) is None:
            return self._plan(len(images))
        assert self.planned is not None
        return self.planned

    def _plan(self, n: int) -> PendingSamples:
        """n samples of the model; checked now, drawn later."""
        options = self.options
        assert self.subject.generator is not None
        request = Request(
            n=n, seed=options.seed, prior=options.prior, sampler=options.sampler, guidance=options.guidance
        )
        return pending(self.subject.generator, request, options.batch_size)


def _measured(name: str, comparison: Comparison) -> MetricResult:
    """The result of a metric. Raises ConfigError when it cannot be measured."""
    try:
        return METRICS[name].measure(comparison)
    except ValueError as error:
        raise ConfigError(str(error)) from error
