"""Random resized crops of a batch have the same distribution as torchvision's."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from ddpm_cli.objectives.augment import crop_and_resize, random_resized_crop
from ddpm_cli.training.randomness import StepRandom

CPU = torch.device("cpu")


def coordinates(n: int, height: int, width: int) -> Tensor:
    """(n,2,H,W): the x and y coordinates of each pixel, from which the position of a crop can be read."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y]).expand(n, 2, height, width).clone()


def boxes(crops: Tensor) -> Tensor:
    """(n,4) left, top, width and height in pixels, from crops of `coordinates`; using only inner pixels."""
    x, y = crops[:, 0], crops[:, 1]
    height, width = x.shape[-2:]
    inner = [(v[:, -2, -2] - v[:, 1, 1]) / (size - 3) for v, size in ((x, width), (y, height))]  # per pixel of the crop
    left, top = x[:, 1, 1] - 1.5 * inner[0], y[:, 1, 1] - 1.5 * inner[1]
    return torch.stack([left, top, inner[0] * width, inner[1] * height], 1)


@pytest.mark.parametrize(
    ("scale", "ratio", "shape"),
    [((0.8, 1.0), (0.9, 1.1), (400, 400)), ((0.3, 0.9), (0.5, 2.0), (400, 600)), ((0.9, 1.0), (0.5, 0.8), (400, 400))],
)
def test_the_distribution_is_torchvisions(
    scale: tuple[float, float], ratio: tuple[float, float], shape: tuple[int, int]
) -> None:
    """Means and standard deviations of area, aspect, position and their products agree with `get_params`."""
    n, (height, width) = 3000, shape
    small = coordinates(1, height // 20, width // 20).expand(n, -1, -1, -1)
    ours = boxes(random_resized_crop(small, StepRandom(0, 0, CPU, n), scale, ratio)) * 20
    torch.manual_seed(0)
    picture = torch.zeros(1, height, width)
    drawn = [RandomResizedCrop.get_params(picture, list(scale), list(ratio)) for _ in range(n)]
    theirs = torch.tensor([[j, i, w, h] for i, j, h, w in drawn], dtype=torch.float32)

    def features(box: Tensor) -> Tensor:
        left, top, w, h = box.unbind(1)
        return torch.stack([left, top, w, h, w * h / 400, (w / h).log() * 100, left * top / 10], 1)

    one, two = features(ours), features(theirs)
    std = two.std(0).clamp(min=0.5)
    assert ((one.mean(0) - two.mean(0)).abs() < 0.12 * std + 0.5).all()  # 4.6 standard errors plus rounding
    assert ((one.std(0) - two.std(0)).abs() < 0.1 * std + 0.5).all()


def test_a_crop_is_resized_as_by_torchvision() -> None:
    """At whole pixels and away from the border, where torchvision crops before it interpolates."""
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    share = [torch.tensor([v / 32]) for v in (3, 5, 24, 20)]
    ours = crop_and_resize(x, *share)
    theirs = resized_crop(x, top=5, left=3, height=20, width=24, size=[32, 32], antialias=False)
    assert torch.allclose(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-5)


def test_a_crop_of_the_whole_image_is_the_identity() -> None:
    x = torch.randn(5, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    same = random_resized_crop(x, StepRandom(0, 0, CPU, 5), (1.0, 1.0), (1.0, 1.0))
    assert torch.allclose(same, x, atol=1e-5)


def test_a_crop_that_never_fits_is_central() -> None:
    """A crop twice as wide as high with the area of the image becomes as wide as the image and half as high."""
    crops = random_resized_crop(coordinates(4, 20, 20), StepRandom(0, 0, CPU, 4), (1.0, 1.0), (2.0, 2.0))
    assert torch.allclose(boxes(crops), torch.tensor([0.0, 5.0, 20.0, 10.0]).expand(4, 4), atol=1e-3)


def test_micro_batches_get_the_same_crops_as_the_whole_batch() -> None:
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = random_resized_crop(x, StepRandom(3, 7, CPU, 6), (0.5, 1.0), (0.9, 1.1))
    rows = [slice(0, 2), slice(2, 6)]
    halves = [random_resized_crop(x[r], StepRandom(3, 7, CPU, 6, r), (0.5, 1.0), (0.9, 1.1)) for r in rows]
    assert torch.equal(whole, torch.cat(halves))
    other = random_resized_crop(x, StepRandom(3, 8, CPU, 6), (0.5, 1.0), (0.9, 1.1))
    assert not torch.allclose(whole, other, atol=1e-2)
