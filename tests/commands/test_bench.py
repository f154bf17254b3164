"""ddpm bench of the samplers on an exact mixture."""

import json
from pathlib import Path

import pytest

from ..conftest import Cli


def test_every_sampler_is_measured_and_more_steps_reduce_the_error(cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", "n=4000", "steps=[4,16]", "out=b")
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "b/bench.json").read_text())
    errors = {(r["sampler"], r["steps"]): r for r in found["rows"]}
    assert {name for name, _ in errors} == {
        "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "euler", "heun", "unipc",
    }  # fmt: skip
    exact = max(r["distance"] for r in found["exact"])
    for name in ("ddim", "ddpm", "dpmpp_2m", "heun", "unipc"):
        assert max(exact, errors[name, 16]["distance"]) < errors[name, 4]["distance"]
        assert errors[name, 16]["covariance"] < errors[name, 4]["covariance"]
    assert errors["heun", 16]["calls"] == 31 and errors["ddim", 16]["calls"] == 16
    assert errors["dpmpp_2m", 16]["distance"] < errors["ddim", 16]["distance"]  # second order is better
    assert (tmp_path / "b/samplers.png").stat().st_size > 10_000
    assert "dpmpp_2m_sde" in result.out and "exact" in result.out


def test_a_mixture_of_digits(cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", "mixture=digits", "samplers=[dpmpp_2m]", "n=500", "steps=[30]", "schedule=cosine", "out=b")
    assert result.code == 0, result.err
    (row,) = json.loads((tmp_path / "b/bench.json").read_text())["rows"]
    assert 0 < row["covariance"] < 0.5


def test_duplicates_are_measured_once(cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", "samplers=[euler,euler]", "steps=[3,3]", "n=50", "out=b")
    assert result.code == 0, result.err
    assert len(json.loads((tmp_path / "b/bench.json").read_text())["rows"]) == 1


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("samplers=[dimm]", "samplers: there is no 'dimm'"),
        ("mixture=cats", "mixture: must be plane or digits"),
        ("steps=[0]", "steps: must be positive"),
        ("steps=[]", "steps: must be positive"),
        ("steps=[2000]", "error: steps: must be between 1 and"),
        ("n=1", "n: must be at least 2"),
        ("what=speed", "what: there is no 'speed'; did you mean 'sample'?"),
    ],
)
def test_mistakes(argument: str, says: str, cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", argument, "out=b")
    assert result.code == 2 and says in result.err and len(result.err.splitlines()) == 1
    assert not (tmp_path / "b").exists()
