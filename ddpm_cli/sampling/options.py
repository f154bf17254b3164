"""The options of `ddpm sample` and `ddpm gif`, checked once; see conf/sample.yaml and conf/gif.yaml."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from ..build import check_positive
from ..errors import ConfigError
from ..hardware.options import CompileSetting, Precision
from ..render.denoise import FrameSpacing
from ..runs.load import Weights
from ..text import NameText, PathText
from .animation import FPS, HOLD, AnimationOptions, Kind
from .batching import Size
from .request import Request
from .samples import Dtype

SUFFIXES = (".gif", ".mp4")
OTHER_PICTURES = (".png", ".webp", ".webm", ".apng", ".jpg")


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Request):
    """The keys of conf/sample.yaml. Raises ConfigError for a value out of range, or keys of different tasks."""

    ckpt: PathText = "outputs/latest"
    batch_size: Size = "auto"
    dtype: Dtype = "uint8"
    weights: Weights = "ema"
    device: str = "auto"
    precision: Precision = "auto"
    compile: CompileSetting = "auto"
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(batch_size=1 if self.batch_size == "auto" else self.batch_size)


@dataclass(frozen=True, kw_only=True)
class GifOptions(Request):
    """The keys of conf/gif.yaml.

    Raises:
        ConfigError: a value out of range, keys of different tasks, or an unsupported file format.
    """

    pixel_noise: bool = field(default=False, init=False)  # not a key of this command
    ckpt: PathText = "outputs/latest"
    kind: Kind = "denoise"
    weights: Weights = "ema"
    frames: int = 48
    spacing: FrameSpacing = "motion"
    fps: float = FPS
    hold: float = HOLD
    scale: int | None = None
    format: Literal["gif", "mp4"] = "gif"
    root: PathText | None = None
    device: str = "auto"
    precision: Precision = "auto"
    out: PathText = ""
    trust: list[NameText] = field(default_factory=list)
    debug: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(fps=self.fps)
        self.animation.check(self)
        if Path(self.out).suffix.lower() in OTHER_PICTURES:
            raise ConfigError(
                f"out: cannot write {Path(self.out).suffix}; name a file that ends in .gif or .mp4, or a folder"
            )

    @cached_property
    def animation(self) -> AnimationOptions:
        return AnimationOptions(
            kind=self.kind, frames=self.frames, spacing=self.spacing, scale=self.scale, root=self.root
        )

    def path(self, folder: Path) -> Path:
        """The file to write in `folder`: the one that `out` names, or one named after the kind."""
        named = Path(self.out).suffix in SUFFIXES
        return folder / (Path(self.out).name if named else f"{self.kind}.{self.format}")
