"""How often a digit classifier recognises the requested class, by guidance scale.

    ddpm train run_dir=RUN
    python benchmarks/guidance.py RUN docs

samples a digits checkpoint at several scales and writes docs/guidance.md and docs/guidance.png. The classifier is a
support vector machine on scikit-learn's digits, independent of the network; its accuracy on digits that it was not
fitted to is in the table too, as what real pictures reach.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

SCALES = (0.0, 1.0, 2.0, 3.0, 5.0)
SHOWN = (0.0, 1.0, 3.0)
ROWS, ZOOM = 4, 8


def sample(run: str, scale: float, n: int, steps: int, out: Path) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Images (N,8,8) in 0..16, the requested classes (N,) and sample.json."""
    command = [sys.executable, "-m", "ddpm_cli", "sample", f"ckpt={run}", f"n={n}", "batch_size=250", f"out={out}"]
    command += ["guidance=cfg", f"guidance.scale={scale}", f"sampler.steps={steps}", "labels=[0,1,2,3,4,5,6,7,8,9]"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file = np.load(out / "samples.npz")
    return file["arr_0"][..., 0] / 255 * 16, file["arr_1"], json.loads((out / "sample.json").read_text())


def standard_error(fraction: float, n: int) -> float:
    """Of a fraction of n."""
    return float(np.sqrt(fraction * (1 - fraction) / n))


def picture(images: dict[float, np.ndarray]) -> Image.Image:
    """A block for each scale: ROWS rows of the ten digits; a white line between blocks."""
    blocks = []
    for some in images.values():
        tiles = np.pad(some[: ROWS * 10] * 255 / 16, ((0, 0), (0, 1), (0, 1)), constant_values=128)
        block = tiles.reshape(ROWS, 10, 9, 9).transpose(0, 2, 1, 3).reshape(ROWS * 9, 90)
        blocks += [block, np.full((3, 90), 255.0)]
    whole = np.concatenate(blocks[:-1]).round().astype(np.uint8)
    return Image.fromarray(whole.repeat(ZOOM, 0).repeat(ZOOM, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    digits = load_digits()
    classifier = SVC(gamma=0.001)
    real = float(cross_val_score(classifier, digits.data, digits.target, cv=5).mean())
    classifier.fit(digits.data, digits.target)
    rows, shown, facts = [], {}, {}
    for scale in SCALES:
        with tempfile.TemporaryDirectory() as folder:
            images, requested, facts = sample(options.run, scale, options.n, options.steps, Path(folder) / "s")
        fraction = float((classifier.predict(images.reshape(len(images), -1)) == requested).mean())
        deviation = float(np.mean([images[requested == c].std(0).mean() for c in range(10)])) / 16 * 255
        rows.append(f"| {scale:g} | {fraction:.1%} ± {standard_error(fraction, options.n):.1%} | {deviation:.1f} |")
        if scale in SHOWN:
            shown[scale] = images
    per_class = float(np.mean([digits.images[digits.target == c].std(0).mean() for c in range(10)])) / 16 * 255
    rows.append(f"| real digits | {real:.1%} (5-fold) | {per_class:.1f} |")
    picture(shown).save(options.out / "guidance.png")
    text = (
        "# Classifier-free guidance on digits\n\n"
        f"{options.n} samples of a digits checkpoint (step {facts['checkpoint_step']}, {facts['sampler']['name']}, "  # type: ignore[index]
        f"{options.steps} steps, seeds 0 to {options.n - 1}) at each scale, classified by a "
        "support vector machine. Scale 0 = no class, 1 = the model unchanged.\n\n"
        "| scale | classified as the class asked for | spread within a class, in grey levels |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n![Four rows of ten digits at scale 0, 1 and 3](guidance.png)\n\n"
        "*Scale 0, 1 and 3 from top to bottom; the columns ask for 0 to 9.*\n\n"
        "Commands: `ddpm train run_dir=RUN`, then `python benchmarks/guidance.py RUN docs`.\n"
    )
    (options.out / "guidance.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
