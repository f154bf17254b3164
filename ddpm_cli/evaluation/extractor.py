"""The network whose features samples and real images are compared in: a classifier trained here, or Inception."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..hardware.runtime import Runtime, choose_runtime
from ..progress import Progress
from ..runs.checkpoint import digest
from ..sampling.classifier import LoadedClassifier, load_classifier

INCEPTION, SHA256 = "weights-inception-2015-12-05-6726825d.pth", "6726825d"
"""The file that torch-fidelity downloads, and how its digest begins."""
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """Pixels (N,C,H,W) uint8 -> features and class probabilities, in full precision.

    Args:
        name: with the digest of its weights, "classifier 3f2a..." or "inception 9b1c...".
        resize: what happens to the images first.
        features, logits: of a batch of pixels on the device.
        class_names: that its answers mean.
        classifier: the run that it is from; None = Inception.
    """

    name: str
    resize: str
    features: Network
    logits: Network
    device: torch.device
    class_names: tuple[str, ...] = ()
    classifier: LoadedClassifier | None = None

    def features_of(self, pixels: Tensor, batch_size: int, progress: Progress, what: str) -> Tensor:
        """(N,F) on the host."""
        return self._over(self.features, pixels, batch_size, progress, f"features of {what}")

    def probabilities_of(self, pixels: Tensor, batch_size: int, progress: Progress, what: str) -> Tensor:
        """(N,K) float64 on the host."""
        return self._over(self.logits, pixels, batch_size, progress, f"classes of {what}").double().softmax(1)

    def _over(self, network: Network, pixels: Tensor, batch_size: int, progress: Progress, what: str) -> Tensor:
        found = []
        with torch.no_grad():
            for part in pixels.split(batch_size):
                found.append(network(part.to(self.device)).float().cpu())
                progress(what, sum(map(len, found)), len(pixels))
        return torch.cat(found)


def load_extractor(features: str, device: str, trust: Sequence[str]) -> Extractor:
    """features=RUN or features=inception.

    Raises:
        CheckpointError: RUN is missing, damaged or no classifier.
        ConfigError: a classifier of noisy images; Inception whose program or weights are not on this machine.
    """
    runtime = choose_runtime(device, "fp32")
    return _inception(runtime) if features == "inception" else _classifier(features, runtime, trust)


def _classifier(run: str, runtime: Runtime, trust: Sequence[str]) -> Extractor:
    loaded = load_classifier(run, runtime, trust)
    if loaded.noisy:
        raise ConfigError(f"features: {run} was trained on noisy images; train one with objective.noisy=false")
    return Extractor(
        f"classifier {loaded.digest}",
        "none",
        loaded.features_of,
        loaded.logits_of,
        runtime.device,
        loaded.class_names,
        loaded,
    )


def check_shape(extractor: Extractor, shape: tuple[int, ...], key: str) -> None:
    """Raises ConfigError, naming `key`, when the classifier takes images of another shape than the model draws."""
    if extractor.classifier is not None and extractor.classifier.shape != shape:
        one, other = ("x".join(map(str, s)) for s in (extractor.classifier.shape, shape))
        raise ConfigError(f"{key}: the classifier takes images of {one}, the model draws {other}; train one on these")


def _inception(runtime: Runtime) -> Extractor:
    """Inception v3 as Heusel et al. 2017 used it: 2048 pooled features, and the 1008 unbiased logits of the score."""
    if find_spec("torch_fidelity") is None:
        raise ConfigError(
            "features: inception needs torch-fidelity; pip install torch-fidelity, or use features=RUN of a classifier"
        )
    weights = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if not weights.is_file():
        raise ConfigError(
            f"features: the weights of inception are not at {weights}; put {INCEPTION} of torch-fidelity there"
        )
    sha256 = digest(weights)
    if not sha256.startswith(SHA256):
        raise ConfigError(
            f"features: {weights} is damaged or another file (sha256 {sha256[:8]}); put the right one there"
        )
    torch.load(weights, map_location="cpu", weights_only=True)  # refuses code, which torch-fidelity would run
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    layers = ["2048", "logits_unbiased"]
    network = FeatureExtractorInceptionV3("inception-v3-compat", layers, feature_extractor_weights_path=str(weights))
    network = network.eval().requires_grad_(False).to(runtime.device)

    def layer(number: int) -> Network:
        return lambda pixels: network(pixels.expand(-1, 3, -1, -1).contiguous())[number]

    return Extractor(
        f"inception {sha256}",
        "299x299, bilinear as TensorFlow 1.x",
        layer(0),
        layer(1),
        runtime.device,
    )
