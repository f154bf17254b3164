"""From what was asked to figures."""

from collections.abc import Callable

from ..data.images import Images, pixels_sha256
from ..errors import ConfigError, DataError
from ..progress import Progress
from ..runs.images import pictures_of
from ..runs.load import Loaded
from ..sampling.generator import Direct
from .accuracy import accuracy
from .asked import Asked, Found
from .bits import BitsOptions, Judge
from .cas import cas
from .case import Case
from .feasible import check_feasible
from .finding import Finding
from .latent_bits import LatentJudge
from .report import bits_pictures, sample_pictures
from .sample_metrics import JUDGES
from .samples import Drawing, Drawn, drawing, read
from .subject import OF_SAMPLES

BITS_IMAGES, SAMPLES = 256, 1000


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
        found.keep({"accuracy": finding}, images, Drawn(images.pixels, None, asked.subject.facts))
        found.title = f"{len(images)} {asked.split} images"
        found.about |= {"n": len(images), "images_sha256": pixels_sha256(images.pixels)}

    return load


def _bits(found: Found) -> Load | None:
    asked, generator = found.asked, found.asked.subject.generator
    if "bpd" not in asked.metrics or generator is None:
        return None

    def load(progress: Progress) -> Callable[[], None]:
        judge = judge_of(generator, asked.bits, asked.seed)
        images = asked.real_images(asked.count(BITS_IMAGES), progress)
        return lambda: measure(judge, images, progress)

    def measure(judge: Judge | LatentJudge, images: Images, progress: Progress) -> None:
        found.bits, found.images = judge(images, asked.batch_size, progress), len(images)
        protocol = judge.protocol(len(images), asked.batch_size)
        found.pictures |= bits_pictures(found.bits, protocol, len(images))
        found.about |= {"n": len(images), "images_sha256": pixels_sha256(images.pixels), "bpd": protocol}

    return load


def judge_of(generator: Loaded | Direct, options: BitsOptions, seed: int) -> Judge | LatentJudge:
    """What it refuses, it refuses now, before images are loaded."""
    if isinstance(generator, Direct):
        return LatentJudge(generator, options, seed)
    judge = Judge(generator, options, seed)
    _ = judge.terms
    return judge


def _samples(found: Found) -> Load | None:
    asked = found.asked
    chosen = [metric for metric in asked.metrics if metric in OF_SAMPLES]
    if not chosen:
        return None

    def load(progress: Progress) -> Callable[[], None]:
        images = asked.real_images(asked.real, progress)
        ready = _drawing(asked, images)
        known, root = asked.subject.known, asked.root
        train, unseen = (pictures_of(known, root, split, progress) for split in ("train", "val"))
        check_feasible(chosen, ready, images, unseen, asked.subject.extractor, asked.options.neighbours)
        return lambda: measure(ready.draw(progress), images, train, unseen, progress)

    def measure(drawn: Drawn, images: Images, train: Images, unseen: Images, progress: Progress) -> None:
        case = Case(
            drawn, images, train, unseen, asked.split, asked.subject.extractor, asked.options,
            asked.batch_size, asked.seed, progress,
        )  # fmt: skip
        findings = {metric: _judged(metric, case) for metric in chosen}
        found.keep(findings, images, drawn)
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


def _drawing(asked: Asked, images: Images) -> Drawing:
    """Reads or draws samples of the images' shape. Raises DataError, ConfigError."""
    subject = asked.subject
    if asked.samples is not None:
        drawn = read(asked.samples, asked.count(None))
        if tuple(drawn.pixels.shape[1:]) != images.shape:
            one, other = ("x".join(map(str, s)) for s in (drawn.pixels.shape[1:], images.shape))
            raise DataError(f"samples: are {one}, the real images {other}; they are compared as they are, resize them")
        return Drawing(len(drawn.pixels), drawn.labels, lambda progress: drawn)
    assert subject.generator is not None
    n = asked.count(SAMPLES)
    n = len(images) if n is None else n
    return drawing(
        subject.generator, asked.sampler, asked.guidance, n, asked.batch_size, asked.seed, asked.trust, asked.prior
    )
