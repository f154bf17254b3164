"""From a manifest, a `_target_` is only ever one that the shipped conf/ names there. All others are not even imported."""

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import ddpm_cli
from ddpm_cli import build, trust
from ddpm_cli.errors import ConfigError

from ..conftest import Cli
from .conftest import JUDGED, OPENINGS
from .strangers import Stranger, check_answer, watched

LEFT_OUT = {"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "lib2to3", "test", "__main__"}
"""Modules of the standard library that do something when they are imported."""
WITH_FUNCTIONS = ("os", "posix", "subprocess", "builtins", "shutil", "torch", "torch.hub", "ddpm_cli.files")
OTHERS = (
    "torch",
    "numpy",
    "torch.optim",
    "torch.utils.data",
    "torch.utils.cpp_extension",
    "torch.hub",
    "numpy.lib.format",
)
OWN_PLACES = {"trainer.ema": {"ddpm_cli.training.ema.Decay"}, "guidance": {"ddpm_cli.diffusion.guidance.ByClassifier"}}
"""Targets of earlier versions, which still load."""


def shipped() -> dict[str, set[str]]:
    """Position in a config -> the targets that conf/ names there; read with a YAML parser, unlike `trust`."""
    found: dict[str, set[str]] = {}

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("_target_"), str) and "${" not in node["_target_"]:
                found.setdefault(key, set()).add(node["_target_"])
            for name, value in node.items():
                walk(value, f"{key}.{name}")

    for path in trust.conf_dir().glob("*/*.yaml"):
        if path.parent.name != "hydra":
            walk(OmegaConf.to_container(OmegaConf.load(path)), path.parent.name)
    return found


SHIPPED = shipped()
KEYS = sorted(
    {*SHIPPED, "objective.weighting", "objective.times", "trainer.ema", "optimizer.lr", "seed", "ckpt", "hydra"}
)


def modules() -> Iterator[Any]:
    """torch, NumPy, the standard library and this package, as far as they can be imported here."""
    own = [m.name for m in pkgutil.walk_packages(ddpm_cli.__path__, "ddpm_cli.") if not m.name.endswith("__main__")]
    for name in [*sorted(sys.stdlib_module_names - LEFT_OUT), *OTHERS, *own]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except ImportError:
            continue
    for name, module in sorted(sys.modules.items()):
        top = name.partition(".")[0]
        if module is not None and (top in ("torch", "numpy", "ddpm_cli") or top in sys.stdlib_module_names):
            yield name, module


@pytest.fixture(scope="module")
def reachable() -> list[str]:
    """The paths of all classes, and of all functions that could do harm by themselves."""
    paths = set()
    for name, module in modules():
        for attribute, value in list(vars(module).items()):
            if issubclass(type(value), type) or (callable(value) and name in WITH_FUNCTIONS):
                paths.add(f"{name}.{attribute}")
    return sorted(paths)


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that `build` asks for."""
    names: list[str] = []
    original = trust.module_at

    def recorded(name: str) -> Any:
        names.append(name)
        return original(name)

    monkeypatch.setattr(build, "module_at", recorded)
    return names


@pytest.mark.parametrize("key", KEYS)
def test_only_shipped_targets_are_found(key: str, reachable: list[str], imported: list[str], tmp_path: Path) -> None:
    assert len(reachable) > 3000
    accepted = set()
    with watched(tmp_path) as watch:
        for path in reachable:
            before = len(imported)
            try:
                build.locate(path, key, ())
                accepted.add(path)
            except ConfigError:
                assert len(imported) == before, f"{path} was imported for {key}"
    assert not watch.seen
    allowed = SHIPPED.get(key, set()) | SHIPPED.get(key.rpartition(".")[2], set()) | OWN_PLACES.get(key, set())
    assert accepted <= allowed, accepted - allowed
    assert allowed - accepted - OWN_PLACES.get(key, set()) <= {p for p in allowed if p not in reachable}


@pytest.mark.parametrize("key", KEYS)
def test_refused_targets_are_not_built(key: str, reachable: list[str], imported: list[str], tmp_path: Path) -> None:
    allowed = SHIPPED.get(key, set()) | SHIPPED.get(key.rpartition(".")[2], set()) | OWN_PLACES.get(key, set())
    with watched(tmp_path) as watch:
        for path in reachable:
            if path not in allowed:
                with pytest.raises(ConfigError):
                    build.build({"_target_": path, "_partial_": len(path) % 2 == 0}, key, trust=())
    assert not imported and not watch.seen


@pytest.mark.parametrize(
    ("node", "key"),
    [
        ({"_target_": "torch.optim.Adam", "_partial_": True, "lr": "HERE"}, "optimizer"),
        ({"_target_": "ddpm_cli.diffusion.samplers.ddim.DDIM", "steps": "HERE"}, "sampler"),
        ({"_target_": "ddpm_cli.objectives.denoising.Denoising", "target": "HERE"}, "objective"),
        ({"_target_": "ddpm_cli.objectives.denoising.Denoising", "weighting": "HERE", "target": None}, "objective"),
        ({"_target_": "ddpm_cli.training.plan.Plan", "ema": "HERE"}, "trainer"),
        ({"_target_": "ddpm_cli.models.unet.UNet", "in_channels": "HERE"}, "model"),
        ({"_target_": "ddpm_cli.data.digits.Digits", "root": "HERE"}, "dataset"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_targets_within_targets_are_not_built(
    node: dict[str, Any], key: str, reachable: list[str], imported: list[str], tmp_path: Path
) -> None:
    inner = next(name for name, value in node.items() if value == "HERE")
    known = set().union(*SHIPPED.values()) | set(trust.ALIASES)
    with watched(tmp_path) as watch:
        for path in reachable:
            if path not in known:
                with pytest.raises(ConfigError):
                    build.build({**node, inner: {"_target_": path}}, key, trust=())
    assert not watch.seen
    assert {name.partition(".")[0] for name in imported} <= {"ddpm_cli", "torch"} and len(set(imported)) <= 3


ODD = [
    "", ".", "..", "os", "os.", ".os.system", "os..system", "os.system\n", " os.system", "os.system ", "ＯＳ.system",
    "../../os.system", "/etc/passwd", "http://127.0.0.1/x.py", "file:///etc/passwd", "builtins.eval", "ddpm_cli.build.build",
    "ddpm_cli.files.write_atomically", "ddpm_cli.trust.importlib.import_module", "torch.optim.Adam.__init__.__globals__",
    "ddpm_cli.diffusion.samplers.ddim.DDIM.__class__", "ddpm_cli.diffusion.samplers.ddim.os.system", "a" * 100_000, "\x00",
    "\x1b[31mred", "[bold]x[/bold].y", "${oc.env:HOME}", "${now:%Y}.x", "torch.optim.Adam;os.system", "__main__.x",
    "ddpm_cli.diffusion.samplers.DDIM", "hydra.utils.instantiate", "sitecustomize.x", "antigravity.x", "this.x",
]  # fmt: skip


@pytest.mark.parametrize("path", ODD, ids=lambda text: ascii(text[:30]))
def test_odd_targets(path: str, imported: list[str]) -> None:
    before = set(sys.modules)
    for key in KEYS:
        with pytest.raises(ConfigError):
            build.locate(path, key, ())
    assert not imported and set(sys.modules) == before


@pytest.mark.parametrize(
    "key", ["", ".", "..", "sampler/../model", "../conf/sampler", "*", "x.*", "a b", "sampler\x00"]
)
def test_odd_keys_name_nothing(key: str) -> None:
    assert trust.shipped_targets(key) == frozenset()


HARMFUL = [
    {"_target_": "os.system", "command": "touch ran"},
    {"_target_": "subprocess.Popen", "args": ["touch", "ran"]},
    {"_target_": "subprocess.run", "_partial_": True, "args": ["touch", "ran"]},
    {"_target_": "builtins.exec", "source": "open('ran','w')"},
    {"_target_": "builtins.open", "file": "ran", "mode": "w"},
    {"_target_": "pathlib.Path", "_partial_": True},
    {"_target_": "torch.utils.cpp_extension.load", "name": "ran"},
    {"_target_": "torch.load", "f": "ran"},
    {"_target_": "torch.optim.lr_scheduler.LambdaLR"},
    {"_target_": "torch.serialization.FILE_LIKE"},
    {"_target_": "torch._inductor.codecache.PyCodeCache"},
    {"_target_": "numpy.memmap", "filename": "ran", "mode": "w+", "shape": 10},
    {"_target_": "logging.FileHandler", "filename": "ran"},
    {"_target_": "ddpm_cli.data.cache_file.CacheFile", "path": "ran"},
    {"_target_": "ddpm_cli.files.write_json", "path": "ran", "value": 1},
    {"_target_": "timeit.Timer", "_partial_": True, "stmt": "open('ran','w')"},
    {"_target_": "my_model.Net"},
]
GROUPS = ("model", "objective", "schedule", "sampler", "guidance", "dataset", "optimizer", "trainer")


def turn(number: int, n: int = 3) -> list[dict[str, Any]]:
    """`n` of the harmful nodes, others for each number."""
    return [HARMFUL[(n * number + i) % len(HARMFUL)] for i in range(n)]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("opening", OPENINGS)
def test_a_denoiser_names_other_code(opening: str, group: str, real: Cli, stranger: Stranger, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("open('ran', 'w')")
    for node in turn(GROUPS.index(group) + len(opening), 2):
        stranger.set(f"config.{group}", node)
        check_answer(real(*OPENINGS[opening]))
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("group", ["model", "objective", "optimizer", "trainer", "dataset"])
@pytest.mark.parametrize("opening", JUDGED)
def test_a_classifier_names_other_code(
    opening: str, group: str, real: Cli, stranger: Stranger, judge: Stranger, tmp_path: Path
) -> None:
    (tmp_path / "my_model.py").write_text("open('ran', 'w')")
    for node in turn(GROUPS.index(group) + len(opening), 1):
        judge.set(f"config.{group}", node)
        judge.put_config(group, node)
        check_answer(real(*JUDGED[opening]))
        assert not (tmp_path / "ran").exists()
