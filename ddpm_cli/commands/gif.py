"""ddpm gif."""

from .. import console
from ..console.progress import Counter
from ..files import probe, shown
from ..ours import check, check_signed
from ..progress import plural
from ..render.animate import frames_of
from ..render.gif import MOST_FPS
from ..runs.job import Job
from ..sampling.generator import load_generator
from ..sampling.options import GifOptions as Options


def run(options: Options, job: Job) -> None:
    """Write denoise.gif, interpolate.gif, or forward.gif with forward.png; or the file that `out` names."""
    path = options.path(job.folder)
    check_signed(path, "out")  # before the checkpoint is read
    if options.kind == "forward" and not path.exists():
        check(path.parent, [path.with_suffix(".png").name], "out")
    probe(path)
    run = load_generator(options.ckpt, options.weights, options.device, options.precision, options.trust)
    make = run.animation(options, options.animation)
    unused = ("sampler", "guidance") if options.kind == "forward" else ()  # it only adds noise
    config = {key: node for key, node in run.shown(job).items() if key not in unused}
    console.show_config(config, job.given, f"ddpm gif: {shown(path)}")
    with Counter() as progress:
        animation = make(progress)
    animation.save(path, options.fps, options.hold)
    if path.suffix == ".gif" and options.fps > MOST_FPS:
        console.note(f"a GIF has at most {MOST_FPS} frames per second, not {options.fps:g}")
    strip = (
        "" if animation.strip is None else f", and five of its times side by side in {shown(path.with_suffix('.png'))}"
    )
    count = frames_of(path, animation.frames)
    fewer = ", as its sampler has no more steps" if options.kind == "denoise" and count < options.frames else ""
    console.note(f"{plural(count, 'frame')} in {shown(path)}{strip}{fewer}")
