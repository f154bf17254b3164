"""The conditions under which a value was measured, and which values compare."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

UNKNOWN = "unknown"
MEASURED_BY = ("data", "split", "n", "n_real", "real_sha256", "resize", "extractor", "settings")
"""Must be equal for two values to compare."""
COMPARED_ANYWAY = (
    "checkpoint", "step", "weights", "precision", "task", "sampler", "steps", "network_calls", "guidance", "seeds",
)  # fmt: skip
"""May differ: what one compares."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a value depends on.

    Args:
        data: name of the data set.
        split: the part of it that the samples are compared with.
        n, n_real: how many samples and how many real images.
        real_sha256: of the real images' pixels, in order: their root, size and choice.
        resize: what was done to the images before the extractor.
        extractor: kind and sha256 of its weights. "pixels" where there are none.
        settings: of the metric itself, as the k of precision and recall.
        checkpoint, step, weights, precision: what the samples were drawn from, computing how exactly.
        task, sampler, steps, network_calls, seeds, guidance: how; the task names the prior of an autoencoder.
            UNKNOWN for samples that nobody described.
    """

    data: str
    split: str
    n: int
    n_real: int
    real_sha256: str
    resize: str
    extractor: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = UNKNOWN
    step: int | str = UNKNOWN
    weights: str = UNKNOWN
    precision: str = UNKNOWN
    task: Any = UNKNOWN
    sampler: Any = UNKNOWN
    steps: int | str = UNKNOWN
    network_calls: int | str = UNKNOWN
    seeds: str = UNKNOWN
    guidance: Any = UNKNOWN

    def record(self) -> dict[str, Any]:
        """As eval.json has it."""
        return asdict(self)


def comparable(
    one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str], fields: Sequence[str] = MEASURED_BY
) -> None:
    """Whether two records have the same `fields`: whether values compare.

    Args:
        names: of the two evaluations, for the message.

    Raises:
        ValueError: they may not; names the first field that differs and what each has.
    """
    for name in fields:
        if one.get(name) != other.get(name):
            values = " but ".join(f"{_short(r.get(name))} in {who}" for r, who in zip((one, other), names, strict=True))
            raise ValueError(f"{name}: is {values}; measure both in the same way to compare them")


def _short(value: Any) -> str:
    return value[:24] + "..." if isinstance(value, str) and len(value) > 24 else str(value)
