"""Limits on the size of files and functions, and on the number of parameters (more should become a dataclass)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, FUNCTION, PARAMETERS = 300, 50, 8
NETWORKS = {
    "models/densenet.py": "DenseNet",
    "models/unet.py": "UNet",
    "models/unet_annotated.py": "UNetAnnotated",
    "models/unet_classifier.py": "UNetClassifier",
    "models/vae.py": "VAE",
    "models/vae_conv.py": "ConvVAE",
}
"""Exceptions: their `__init__` has a parameter for each key of a YAML file in conf/model, and builds all layers."""


def functions(path: Path) -> list[tuple[str, ast.FunctionDef]]:
    """Every function, with the name of its class."""
    pairs: list[tuple[str, ast.FunctionDef]] = []

    def walk(node: ast.AST, inside: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                pairs.append((inside, child))  # type: ignore[arg-type]
            walk(child, child.name if isinstance(child, ast.ClassDef) else inside)

    walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return pairs


def is_network(path: Path, inside: str, function: ast.FunctionDef) -> bool:
    named = NETWORKS.get(str(path.relative_to(PACKAGE)))
    return function.name == "__init__" and inside != "" and inside == named


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_are_short_and_have_few_parameters(path: Path) -> None:
    for inside, function in functions(path):
        if is_network(path, inside, function):
            continue
        a = function.args
        named = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")]
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= FUNCTION, f"{function.name}: {lines} lines"
        assert len(named) <= PARAMETERS, f"{function.name}: {len(named)} parameters"


def test_the_networks_exist_and_need_the_exception() -> None:
    """A network that no longer needs the exception must be removed from the list."""
    for file, name in NETWORKS.items():
        (init,) = [f for inside, f in functions(PACKAGE / file) if inside == name and f.name == "__init__"]
        named = [p.arg for p in init.args.args if p.arg != "self"]
        assert len(named) > PARAMETERS or (init.end_lineno or 0) - init.lineno + 1 > FUNCTION


def test_half_of_the_files_and_all_commands_are_very_short() -> None:
    lengths = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in FILES)
    assert lengths[len(lengths) // 2] <= 120
    commands = [len(p.read_text(encoding="utf-8").splitlines()) for p in FILES if p.parent.name == "commands"]
    assert max(commands) <= 60 and sum(commands) < 500
