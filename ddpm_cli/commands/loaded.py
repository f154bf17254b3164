"""A checkpoint ready to draw from, and what drawing needs."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..data.images import Progress
from ..diffusion.samplers import Sampler
from ..errors import CheckpointError, ConfigError, NonFiniteError
from ..training import checkpoint
from ..training.checkpoint import Checkpoint
from ..training.runtime import choose
from ..training.state import load_weights, part
from .assemble import cycle, denoiser_of, network, network_calls


class Loaded:
    """A checkpoint ready to draw from."""

    def __init__(self, ckpt: str, weights: str, device: str, precision: Any, trust: Sequence[str]):
        self.checkpoint: Checkpoint = checkpoint.find(ckpt)
        self.runtime = choose(device, precision)
        config = dict(self.checkpoint.manifest["config"])
        self.trusted = allowed = {"ddpm_cli", *trust}
        tensors = self.checkpoint.tensors(f"{'model' if weights == 'raw' else 'ema'}.")
        self.weights = weights
        if weights == "ema" and not tensors:  # trained with trainer.ema.decay=0
            tensors, self.weights = self.checkpoint.tensors("model."), "raw"
        module = network(config, trust=allowed)
        load_weights(module, part(tensors, "ema.") or part(tensors, "model."), str(self.checkpoint.path))
        module = self.runtime.prepare(module).eval().requires_grad_(False)
        self.model = denoiser_of(config, allowed, self.runtime)(module)
        self.config = config
        about = self.checkpoint.manifest.get("about", {})
        if "shape" not in about:
            raise CheckpointError(
                f"{self.checkpoint.manifest_path}: does not say the shape of its images; it is damaged"
            )
        self.shape = tuple(int(n) for n in about["shape"])
        self.class_names = tuple(str(n) for n in about.get("class_names", ()))
        self.total_steps = int(config["schedule"].get("steps") or 1000)  # for captions
        self.conditional = bool(getattr(module, "class_conditional", False))

    def labels(self, n: int, label: int | str | None, labels: Sequence[int | str] | None) -> Tensor | None:
        """(n,) the asked classes repeated; all classes in turn when none is asked; None for an unconditional model.

        Raises:
            ConfigError: a class that is not there, or any class for an unconditional model.
        """
        asked = list(labels) if labels is not None else [label] if label is not None else []
        if not self.conditional:
            if asked:
                raise ConfigError("label: this model knows no classes; train with model.class_conditional=true")
            return None
        return cycle([self._class(a) for a in asked] or range(len(self.class_names)), n)

    def _class(self, asked: int | str) -> int:
        if isinstance(asked, int) and 0 <= asked < len(self.class_names):
            return asked
        if str(asked) in self.class_names:
            return self.class_names.index(str(asked))
        raise ConfigError(f"label: there is no class {asked!r}; classes: {', '.join(self.class_names)}")

    def facts(self) -> dict[str, Any]:
        """What sample.json says of it."""
        return {
            "checkpoint": str(self.checkpoint.path),
            "checkpoint_sha256": self.checkpoint.manifest["sha256"],
            "checkpoint_step": self.checkpoint.step,
            "weights": self.weights,
            "device": self.runtime.device.type,
            "precision": self.runtime.precision,
        }


def counter(progress: Progress, sampler: Sampler, loaded: Loaded, n: int) -> Callable[[int], None]:
    """Turns "the network was called on so many images" into images done of n."""
    calls, done = network_calls(sampler, loaded.model.schedule), 0

    def step(images: int) -> None:
        nonlocal done
        done += images
        progress("sampling", done // calls, n)

    return step


def finite(images: Tensor) -> Tensor:
    """Raises NonFiniteError for NaN or infinity."""
    bad = int((~images.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise NonFiniteError(
            f"samples: {bad} of {len(images)} are not finite; use precision=fp32, or an earlier checkpoint"
        )
    return images
