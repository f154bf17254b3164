"""The network in whose features samples and real images are compared: a classifier of a run, or Inception."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..hardware.runtime import Runtime, choose_runtime
from ..progress import Progress
from ..runs.checkpoint import digest
from ..sampling.classifier import LoadedClassifier, load_classifier

INCEPTION, SHA256 = "weights-inception-2015-12-05-6726825d.pth", "6726825d"
"""The weights file of torch-fidelity, and the first digits of its sha256."""
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """Pixels (N,C,H,W) uint8 -> features and class probabilities, in full precision.

    Args:
        name: includes the digest of its weights: "classifier 3f2a..." or "inception 9b1c...".
        resize: how images are resized first.
        features, logits: functions of a batch of pixels on the device.
        class_names: the classes of its outputs.
        classifier: the opened run; None = Inception.
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
        outputs = []
        with torch.no_grad():
            for batch in pixels.split(batch_size):
                outputs.append(network(batch.to(self.device)).float().cpu())
                progress(what, sum(map(len, outputs)), len(pixels))
        return torch.cat(outputs)


def load_extractor(features: str, device: str, trust: Sequence[str]) -> Extractor:
    """The extractor of features=RUN or features=inception.

    Raises:
        CheckpointError: RUN is missing, damaged or not a classifier.
        ConfigError: a classifier of noisy images; torch-fidelity or the weights of Inception are not installed.
    """
    runtime = choose_runtime(device, "fp32")
    return _inception(runtime) if features == "inception" else _classifier(features, runtime, trust)


def _classifier(run: str, runtime: Runtime, trust: Sequence[str]) -> Extractor:
    try:
        loaded = load_classifier(run, runtime, trust)
    except CheckpointError as error:
        raise CheckpointError(f"features: {error}") from error
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
        raise ConfigError(
            f"{key}: the classifier takes images of {one}, but the model draws {other}; "
            "use a classifier trained on the model's dataset"
        )


def _inception(runtime: Runtime) -> Extractor:
    """Inception v3 as in Heusel et al. 2017: 2048 pooled features, and the 1008 unbiased logits of the score."""
    if find_spec("torch_fidelity") is None:
        raise ConfigError(
            "features: inception needs torch-fidelity; pip install torch-fidelity, or use features=RUN of a classifier"
        )
    weights = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if not weights.is_file():
        raise ConfigError(
            f"features: the weights of Inception are missing at {weights}; put {INCEPTION} of torch-fidelity there"
        )
    sha256 = digest(weights)
    if not sha256.startswith(SHA256):
        raise ConfigError(
            f"features: {weights} is damaged or a different file (sha256 {sha256[:8]}); "
            f"replace it with {INCEPTION} of torch-fidelity"
        )
    torch.load(weights, map_location="cpu", weights_only=True)  # refuses pickled code, which torch-fidelity would run
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    layers = ["2048", "logits_unbiased"]
    network = FeatureExtractorInceptionV3("inception-v3-compat", layers, feature_extractor_weights_path=str(weights))
    network = network.eval().requires_grad_(False).to(runtime.device)

    def layer(index: int) -> Network:
        return lambda pixels: network(pixels.expand(-1, 3, -1, -1).contiguous())[index]

    return Extractor(
        f"inception {sha256}",
        "299x299, bilinear as TensorFlow 1.x",
        layer(0),
        layer(1),
        runtime.device,
    )
