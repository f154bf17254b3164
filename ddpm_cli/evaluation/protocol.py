"""The conditions under which a value was measured, and which values can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

UNKNOWN = "unknown"
MEASURED_BY = ("data", "split", "n", "n_real", "real_sha256", "resize", "extractor", "settings")
"""Must be equal for two values to be comparable."""
COMPARED_ANYWAY = (
    "checkpoint", "step", "weights", "precision", "task", "sampler", "steps", "network_calls", "guidance", "seeds",
)  # fmt: skip
"""May differ: these are what users compare."""


@dataclass(frozen=True)
class Protocol:
    """Everything that a value depends on.

    Args:
        data: name of the dataset.
        split: the split that the samples are compared with.
        n, n_real: number of samples and of real images.
        real_sha256: digest of the pixels of the real images, in order. It depends on their files, size and choice.
        resize: how images were resized for the extractor.
        extractor: its kind and the sha256 of its weights; "pixels" without one.
        settings: settings of the metric, such as k of precision and recall.
        checkpoint, step, weights, precision: the model that drew the samples, and the precision it computed in.
        task, sampler, steps, network_calls, seeds, guidance: how they were drawn. The task includes the prior of an
            autoencoder. UNKNOWN for samples without a sample.json.
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
        """The form in eval.json."""
        return asdict(self)


def comparable(
    one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str], fields: Sequence[str] = MEASURED_BY
) -> None:
    """Check that two records have the same `fields`, so that their values can be compared.

    Args:
        names: names of the two evaluations, for the message.

    Raises:
        ValueError: a field differs; the message has the first one and both values.
    """
    for name in fields:
        if one.get(name) != other.get(name):
            values = " but ".join(f"{_short(r.get(name))} in {n}" for r, n in zip((one, other), names, strict=True))
            raise ValueError(f"{name}: is {values}; measure both in the same way to compare them")


def _short(value: Any) -> str:
    return value[:24] + "..." if isinstance(value, str) and len(value) > 24 else str(value)
