"""Datasets: pictures as uint8 tensors, and batches as a function of (seed, step)."""

from ..progress import Progress
from .images import Batch, Images, to_float

__all__ = ["Batch", "Images", "Progress", "to_float"]
