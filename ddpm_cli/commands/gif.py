"""ddpm gif."""

from pathlib import Path
from typing import Any, Literal

from .. import console
from ..build import Node, build
from ..errors import ConfigError
from ..files import shown
from ..hardware.options import Precision
from ..render.animate import write_animation
from ..render.denoise import Spacing
from ..runs.assemble import check, check_positive, check_seed
from ..sampling.animation import animated, directly, forward
from ..sampling.generator import Direct, Prior, open_run
from ..sampling.guidance import guided
from ..sampling.inputs import Request
from ..sampling.latent_tasks import check_diffusion, check_unguided


def run(
    config: dict[str, Any],
    folder: Path,
    *,
    sampler: Node,
    guidance: Node,
    ckpt: str,
    kind: Literal["denoise", "forward", "interpolate"],
    n: int,
    seed: int,
    label: int | str | None,
    labels: list[int | str] | None,
    init: str | None,
    mask: str | None,
    between: list[int | str] | None,
    strength: float | None,
    resample: int | None,
    jump: int | None,
    prior: Prior,
    weights: Literal["ema", "raw"],
    frames: int,
    spacing: Spacing,
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
    """Write `folder`/denoise.gif, interpolate.gif, or forward.gif and forward.png; or the file that `out` names."""
    check_seed(seed)
    check_positive(n=n, frames=frames, fps=fps, scale=1 if scale is None else scale)
    request = Request(init, mask, between, strength, resample, jump)
    _check_kind(kind, request, frames)
    named = Path(out).suffix in (".gif", ".mp4")
    if not named and Path(out).suffix.lower() in (".png", ".webp", ".webm", ".apng", ".jpg"):
        raise ConfigError(f"out: cannot write {Path(out).suffix}; name a file that ends in .gif or .mp4, or a folder")
    path = folder / (Path(out).name if named else f"{kind}.{format}")
    drawer = build(sampler, "sampler")
    loaded = open_run(ckpt, weights, device, precision, trust)
    if isinstance(loaded, Direct):
        check_unguided(guidance, (label, labels))
    else:
        check_diffusion(prior)
    console.show_config(loaded.used(config), f"ddpm gif: {shown(path)}")
    with console.Counter() as progress:
        if isinstance(loaded, Direct):
            pictures = directly(kind, request, loaded, n, prior, frames, scale, progress)
        elif kind == "forward":
            pictures = forward(loaded, root, n, seed, frames, spacing, scale, path.with_suffix(".png"), progress)
        else:
            check(loaded.model, drawer)
            guide = guided(guidance, loaded, trust)
            asked = (label, labels)
            pictures = animated(kind, request, loaded, drawer, guide, n, seed, asked, frames, spacing, scale, progress)
    try:
        write_animation(path, pictures, fps=fps, hold=0 if kind == "interpolate" else hold, format=path.suffix[1:])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    console.note(f"{len(pictures)} frames in {shown(path)}")


def _check_kind(kind: str, request: Request, frames: int) -> None:
    if kind == "forward" and request.kind != "plain":
        raise ConfigError("kind: forward takes no init, mask or between; use kind=denoise, or leave them out")
    if kind == "interpolate" and request.between is None:
        raise ConfigError("kind: interpolate needs two ends; set between=[PATH,PATH] or two seeds, between=[3,17]")
    if kind == "interpolate" and frames < 2:
        raise ConfigError(f"frames: interpolate needs at least 2, got {frames}")
