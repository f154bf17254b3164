"""ddpm gif."""

from pathlib import Path
from typing import Any, Literal

from .. import console
from ..build import Node, build
from ..errors import ConfigError
from ..render.animate import write_animation
from ..training.plan import Precision
from .assemble import check_positive, check_seed, shown
from .loaded import Loaded
from .pictures import denoise, forward


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    sampler: Node,
    ckpt: str,
    kind: Literal["denoise", "forward"],
    n: int,
    seed: int,
    label: int | str | None,
    labels: list[int | str] | None,
    weights: Literal["ema", "raw"],
    frames: int,
    fps: float,
    hold: float,
    scale: int | None,
    format: Literal["gif", "mp4"],
    root: str | None,
    device: str,
    precision: Precision,
    out: str,
    trust: list[str],
    debug: bool,
) -> None:
    """Write `folder`/denoise.gif, or `folder`/forward.gif and forward.png; or the file that `out` names."""
    check_seed(seed)
    check_positive(n=n, frames=frames, fps=fps, scale=1 if scale is None else scale)
    named = Path(out).suffix in (".gif", ".mp4")
    path = folder / (Path(out).name if named else f"{kind}.{format}")
    draw = build(sampler, "sampler")
    loaded = Loaded(ckpt, weights, device, precision, trust)
    console.show_config(config, f"ddpm gif: {shown(path)}")
    with console.Counter() as progress:
        if kind == "denoise":
            labelled = loaded.labels(n, label, labels)
            pictures = denoise(loaded, draw, range(seed, seed + n), labelled, frames, scale, progress)
        else:
            pictures = forward(loaded, root, n, seed, frames, scale, path.with_suffix(".png"), progress)
    try:
        write_animation(path, pictures, fps=fps, hold=hold, format=path.suffix[1:])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    console.note(f"{len(pictures)} frames in {shown(path)}")
