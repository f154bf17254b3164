"""The oldest versions that pyproject.toml allows can be told from it: `make test-lowest` installs them."""

import tomllib

import pytest

from .lowest import PYPROJECT, lowest


def test_every_requirement_has_a_lower_bound() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    pins = lowest(project)
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names)  # no package has two bounds
    assert {"torch", "torchvision", "pytest"} <= set(names)
    assert set(lowest(project, ("mp4", "trackio"))) <= set(pins)


@pytest.mark.parametrize("text", ["rich", "rich==13.7", "rich<14"])
def test_a_requirement_without_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rich.*: has no lower bound"):
        lowest({"dependencies": [text], "optional-dependencies": {"dev": []}})


def test_an_upper_bound_is_left_out() -> None:
    assert lowest({"dependencies": ["a >= 1.2, < 2"], "optional-dependencies": {}}, ()) == ["a==1.2"]
