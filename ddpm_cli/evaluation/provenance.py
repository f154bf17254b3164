"""Collects the protocol of a measured value: how it was measured, and how the samples were drawn."""

from typing import Any

from ..data.images import Images, pixels_sha256
from ..data.source import Split
from ..runs.images import TrainedOn
from .extractor import Extractor
from .protocol import UNKNOWN, Protocol
from .result import MetricValue
from .samples import SampleSet

FROM_SAMPLES = ("weights", "precision", "task", "sampler", "steps", "network_calls", "guidance")
"""Fields that have the same names in sample.json."""


def protocol_of(
    value: MetricValue, data: TrainedOn, extractor: Extractor | None, split: Split, images: Images, samples: SampleSet
) -> dict[str, Any]:
    """The protocol of `value`, in the form of eval.json.

    Args:
        images: the real images, of `split`.
    """
    facts, resize = samples.facts, "none"
    if extractor is not None and value.extractor is None:
        resize = extractor.resize
    return Protocol(
        data=str(data.config["dataset"].get("name")),
        split=split,
        n=len(samples.pixels),
        n_real=len(images),
        real_sha256=pixels_sha256(images.pixels),
        resize=resize,
        extractor=value.extractor or (extractor.name if extractor is not None else "none"),
        settings=dict(value.settings),
        checkpoint=str(facts.get("checkpoint_sha256", UNKNOWN)),
        step=facts.get("checkpoint_step", UNKNOWN),
        seeds=seeds_text(facts.get("seeds")),
        **{name: facts.get(name, UNKNOWN) for name in FROM_SAMPLES},
    ).record()


def seeds_text(seeds: Any) -> str:
    """[0, 1, 2, 3] -> "0-3"."""
    if not isinstance(seeds, list) or not seeds:
        return UNKNOWN
    if seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))
