"""Runs of an earlier version give the same samples, metrics and weights as with that version."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ..golden import make

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def exact() -> bool:
    """Whether processor and torch are those of the stored results; on others, floats round differently."""
    original: dict[str, str] = json.loads((make.HERE / "machine.json").read_text())
    return original == make.machine()


@pytest.mark.parametrize("name", make.TRAIN)
def test_an_earlier_run_gives_the_same_results(
    name: str, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for each in make.TRAIN:
        shutil.copytree(make.HERE / each / "run", tmp_path / each)
    make.outcome(tmp_path, name)
    make.train(tmp_path, name, make.MORE)
    kept = make.HERE / name
    for kind in ("samples", "guided"):
        if (kept / f"{kind}.npz").is_file():
            with np.load(kept / f"{kind}.npz") as then, np.load(tmp_path / f"{name}_{kind}/samples.npz") as now:
                assert then.files == now.files
                assert np.abs(then["arr_0"].astype(int) - now["arr_0"]).max() <= (0 if exact else 2)
    then_values = json.loads((kept / "eval.json").read_text())
    now_values = make.numbers(json.loads((tmp_path / f"{name}_eval/eval.json").read_text()))
    assert now_values == (then_values if exact else pytest.approx(then_values, rel=1e-3, abs=1e-3))
    then_tensors = load_file(kept / "resumed.safetensors")
    now_tensors = load_file(tmp_path / name / f"checkpoints/step_{make.MORE:08d}.safetensors")
    assert then_tensors.keys() == now_tensors.keys()
    for key, tensor in then_tensors.items():
        if exact:
            assert torch.equal(tensor, now_tensors[key]), key
        else:
            torch.testing.assert_close(tensor, now_tensors[key], atol=1e-3, rtol=1e-3)
    rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows][-1] == make.MORE and len(rows) > 2


def test_targets_of_earlier_versions_still_work() -> None:
    """Classes that have moved since configs and checkpoints named them."""
    from ddpm_cli.build import build, locate
    from ddpm_cli.sampling.guidance import ClassifierGuidance
    from ddpm_cli.training.plan import Decay
    from ddpm_cli.trust import ALIASES

    assert build({"_target_": "ddpm_cli.training.ema.Decay", "decay": 0.5}, "trainer.ema") == Decay(0.5)
    node = {"_target_": "ddpm_cli.diffusion.guidance.ByClassifier", "classifier": "RUN", "scale": 2}
    assert build(node, "guidance") == ClassifierGuidance("RUN", "auto", 2.0)
    assert all(callable(locate(old, key, ())) for old, key in zip(ALIASES, ("guidance", "trainer.ema"), strict=True))
