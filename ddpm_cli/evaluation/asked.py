"""What `ddpm eval` was asked, and what it found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..build import Node
from ..data.images import Images, pixels_sha256
from ..data.source import Split
from ..progress import Progress
from ..runs.images import held_out
from ..sampling.generator import Prior
from .bits import Bits, BitsOptions
from .case import Options
from .finding import Finding, Row, records
from .protocol import UNKNOWN, Protocol
from .report import bits_content, scalars
from .samples import Drawn, seeds_text
from .subject import Subject


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
    prior: Prior
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

    def keep(self, findings: dict[str, Finding], images: Images, drawn: Drawn) -> None:
        """images: the real ones that the samples were held against."""
        self.findings |= findings
        self.figures |= records(findings, lambda row: protocol_of(self.asked, row, images, drawn))
        for finding in findings.values():
            self.pictures |= finding.pictures

    @property
    def scalars(self) -> dict[str, float]:
        return scalars(self.bits, self.findings)

    def content(self, seconds: float) -> dict[str, Any]:
        """eval.json."""
        asked, known = self.asked, self.asked.subject.known
        protocol = {
            **asked.subject.facts,
            "model": asked.subject.model if asked.samples is None or self.bits is not None else None,
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


def protocol_of(asked: Asked, row: Row, images: Images, drawn: Drawn) -> dict[str, Any]:
    """Of one figure: its yardstick, and how the samples came to be."""
    extractor, facts = asked.subject.extractor, drawn.facts
    eyes = row.eyes or (extractor.name if extractor is not None else "none")
    resized = extractor.resize if extractor is not None and row.eyes is None else "none"
    known = ("weights", "precision", "task", "sampler", "steps", "network_calls", "guidance")
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
