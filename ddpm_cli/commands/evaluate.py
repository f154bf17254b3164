"""From what was asked to figures, each with the protocol that it was measured by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..build import Node
from ..data.images import Images, Progress
from ..data.source import Split
from ..errors import ConfigError, DataError
from ..metrics.protocol import UNKNOWN, Protocol
from .accuracy import accuracy
from .cas import cas
from .case import Case, Options, pixels_sha256
from .finding import Finding, Row, records
from .held_out import held_out, pictures_of
from .judged import Drawn, drawing, read, seeds_text
from .judges import JUDGES
from .measure import Bits, BitsOptions, Judge
from .report import bits_content, bits_pictures, sample_pictures, scalars
from .subject import OF_SAMPLES, Subject

BITS_IMAGES, SAMPLES = 256, 1000


@dataclass(frozen=True)
class Asked:
    """See conf/eval.yaml for each field. metrics: the chosen ones."""

    subject: Subject
    metrics: Sequence[str]
    split: Split
    root: str | None
    n: int | Literal["auto"] | None
    real: int | None
    batch_size: int
    seed: int
    samples: str | None
    sampler: Node
    guidance: Node
    trust: Sequence[str]
    options: Options
    bits: BitsOptions

    def count(self, auto: int | None) -> int | None:
        return auto if self.n == "auto" else self.n

    def real_images(self, n: int | None, progress: Progress) -> Images:
        return held_out(self.subject.known, self.root, self.split, n, self.seed, progress)


@dataclass
class Found:
    """Everything that was measured. images: how many bpd looked at; title: of the table of `findings`."""

    asked: Asked
    bits: Bits | None = None
    images: int = 0
    title: str = ""
    findings: dict[str, Finding] = field(default_factory=dict)
    pictures: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def scalars(self) -> dict[str, float]:
        return scalars(self.bits, self.findings)

    def content(self, seconds: float) -> dict[str, Any]:
        """eval.json."""
        asked, known = self.asked, self.asked.subject.known
        protocol = {
            **asked.subject.facts,
            "model": asked.subject.model,
            "dataset": known.config["dataset"].get("name"),
            "split": asked.split,
            "batch_size": asked.batch_size,
            "seed": asked.seed,
            "seconds": seconds,
            **self.about,
        }
        bits = {} if self.bits is None else bits_content(self.bits)
        details = {k: v for finding in self.findings.values() for k, v in finding.detail.items()}
        figures = {"figures": self.figures} if self.figures else {}
        return {**bits, **figures, **details, "protocol": protocol}


def evaluate(asked: Asked, progress: Progress, begin: Callable[[], None]) -> Found:
    """Everything is loaded and checked, then `begin` is called, then it is measured.

    Raises:
        ConfigError, DataError: what cannot be measured.
    """
    found = Found(asked)
    measures = [part for part in (_accuracy(found), _bits(found), _samples(found)) if part is not None]
    ready = [load(progress) for load in measures]
    begin()
    for measure in ready:
        measure()
    return found


Load = Callable[[Progress], Callable[[], None]]


def _accuracy(found: Found) -> Load | None:
    asked, classifier = found.asked, found.asked.subject.classifier
    if classifier is None:
        return None

    def load(progress: Progress) -> Callable[[], None]:
        images = asked.real_images(asked.count(None), progress)
        return lambda: measure(images, progress)

    def measure(images: Images, progress: Progress) -> None:
        finding = accuracy(classifier, images, asked.batch_size, asked.options.resamples, asked.seed, progress)
        _keep(found, {"accuracy": finding}, lambda row: _protocol(asked, row, images, Drawn(images.pixels, None, {})))
        found.title = f"{len(images)} {asked.split} images"
        found.about |= {"n": len(images), "images_sha256": pixels_sha256(images.pixels)}

    return load


def _bits(found: Found) -> Load | None:
    asked, generator = found.asked, found.asked.subject.generator
    if "bpd" not in asked.metrics or generator is None:
        return None

    def load(progress: Progress) -> Callable[[], None]:
        judge = Judge(generator, asked.bits, asked.seed)
        _ = judge.terms  # what it refuses, it refuses before images are loaded
        images = asked.real_images(asked.count(BITS_IMAGES), progress)
        return lambda: measure(judge, images, progress)

    def measure(judge: Judge, images: Images, progress: Progress) -> None:
        found.bits, found.images = judge(images, asked.batch_size, progress), len(images)
        found.pictures |= bits_pictures(found.bits)
        protocol = judge.protocol(len(images), asked.batch_size)
        found.about |= {"n": len(images), "images_sha256": pixels_sha256(images.pixels), "bpd": protocol}

    return load


def _samples(found: Found) -> Load | None:
    asked = found.asked
    chosen = [metric for metric in asked.metrics if metric in OF_SAMPLES]
    if not chosen:
        return None

    def load(progress: Progress) -> Callable[[], None]:
        images = asked.real_images(asked.real, progress)
        draws = _draws(asked, images)
        known, root = asked.subject.known, asked.root
        train, unseen = (pictures_of(known, root, split, progress) for split in ("train", "val"))
        return lambda: measure(draws(progress), images, train, unseen, progress)

    def measure(drawn: Drawn, images: Images, train: Images, unseen: Images, progress: Progress) -> None:
        case = Case(
            drawn, images, train, unseen, asked.split, asked.subject.extractor, asked.options,
            asked.batch_size, asked.seed, progress,
        )  # fmt: skip
        findings = {metric: _judged(metric, case) for metric in chosen}
        _keep(found, findings, lambda row: _protocol(asked, row, images, drawn))
        found.pictures |= sample_pictures(drawn)
        found.title = f"{len(drawn.pixels)} samples against {len(images)} {asked.split} images"
        if asked.subject.extractor is not None:
            kind, _, digest = asked.subject.extractor.name.partition(" ")
            found.title += f", seen by {kind} {digest[:8]}"
        found.about.setdefault("n", len(drawn.pixels))
        found.about["samples"] = {"n": len(drawn.pixels), **drawn.facts}

    return load


def _judged(metric: str, case: Case) -> Finding:
    """Raises ConfigError for what the metric cannot judge."""
    try:
        return cas(case) if metric == "cas" else JUDGES[metric](case)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _draws(asked: Asked, images: Images) -> Callable[[Progress], Drawn]:
    """Reads or draws samples of the images' shape. Raises DataError, ConfigError."""
    subject = asked.subject
    if asked.samples is not None:
        drawn = read(asked.samples, asked.count(None))
        if tuple(drawn.pixels.shape[1:]) != images.shape:
            one, other = ("x".join(map(str, s)) for s in (drawn.pixels.shape[1:], images.shape))
            raise DataError(f"samples: are {one}, the real images {other}; they are compared as they are, resize them")
        return lambda progress: drawn
    assert subject.generator is not None
    n = asked.count(SAMPLES)
    n = len(images) if n is None else n
    return drawing(subject.generator, asked.sampler, asked.guidance, n, asked.batch_size, asked.seed, asked.trust)


def _keep(found: Found, findings: dict[str, Finding], protocol: Callable[[Row], dict[str, Any]]) -> None:
    found.findings |= findings
    found.figures |= records(findings, protocol)
    for finding in findings.values():
        found.pictures |= finding.pictures


def _protocol(asked: Asked, row: Row, images: Images, drawn: Drawn) -> dict[str, Any]:
    """Of one figure: its yardstick, and how the samples came to be."""
    extractor, facts = asked.subject.extractor, asked.subject.facts | drawn.facts
    eyes = row.eyes or (extractor.name if extractor is not None else "none")
    resized = extractor.resize if extractor is not None and row.eyes is None else "none"
    known = ("weights", "sampler", "steps", "network_calls", "guidance")
    return Protocol(
        data=str(asked.subject.known.config["dataset"].get("name")),
        split=asked.split,
        n=len(drawn.pixels),
        n_real=len(images),
        real_sha256=pixels_sha256(images.pixels),
        resize=resized,
        extractor=eyes,
        settings=dict(row.settings),
        checkpoint=str(facts.get("checkpoint_sha256", UNKNOWN)),
        step=facts.get("checkpoint_step", UNKNOWN),
        seeds=seeds_text(facts.get("seeds")),
        **{name: facts.get(name, UNKNOWN) for name in known},
    ).record()
