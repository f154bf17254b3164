"""Pictures as tiles of a plot."""

from matplotlib.axes import Axes
from torch import Tensor

EDGE = "#bbbbbb"


def show(axes: Axes, image: Tensor) -> None:
    """(C,H,W) uint8, each pixel a sharp square, a thin edge around it, no ticks."""
    picture = image.permute(1, 2, 0).numpy()
    if picture.shape[2] == 1:
        axes.imshow(picture[:, :, 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(EDGE)
