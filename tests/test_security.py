"""The static gate: no way in the source by which data could become code. See SECURITY.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "code",
    "codeop",
    "runpy",
}
"""Modules that run what they read."""
NAMES = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "instantiate",
    "system",
    "popen",
    "unsafe_load",
    "execv",
    "posix_spawn",
}
STARTS = {
    "bench/startup.py": "subprocess.run",
    "config/sweep_runs.py": "subprocess.Popen",
    "verification/selftest.py": "subprocess.Popen",
}
"""The only places that start a process: this program itself."""
LOADS = {"evaluation/extractor.py": 1}
"""The only `torch.load`: of weights whose digest is known, with weights_only=True."""
IMPORTS_BY_NAME = {"trust.py", "config/launch.py", "commands/bench.py", "runs/loggers.py"}
"""Imports of modules whose names are computed. Only `trust.module_at` takes a name from a config."""


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def here(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def called(path: Path) -> Iterator[tuple[ast.Call, str, bool]]:
    """Every call, the name of what is called, and whether it is a bare name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            bare = isinstance(node.func, ast.Name)
            yield node, node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", ""), bare


@pytest.mark.parametrize("path", FILES, ids=here)
def test_nothing_that_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not MODULES & {name.partition(".")[0] for name in names}, node.lineno
        if "subprocess" in names or "multiprocessing" in [name.partition(".")[0] for name in names]:
            assert here(path) in (*STARTS, "data/parallel.py", "hardware/threads.py"), node.lineno
    for call, name, bare in called(path):
        module = ast.unparse(call.func).rpartition(".")[0]
        if name in ("eval", "compile"):  # modules are put into evaluation mode, patterns and networks are compiled
            assert not bare or module, f"line {call.lineno}: {name}"
        elif ast.unparse(call.func) != "platform.system":
            assert name not in NAMES, f"line {call.lineno}: {name}"


@pytest.mark.parametrize("path", FILES, ids=here)
def test_no_object_is_unpickled(path: Path) -> None:
    loads = 0
    for call, _, _ in called(path):
        whole, keywords = ast.unparse(call.func), {k.arg: k.value for k in call.keywords}
        if whole in ("np.load", "numpy.load"):
            assert ast.unparse(keywords["allow_pickle"]) == "False", f"line {call.lineno}"
        if whole.endswith("torch.load") or whole.endswith("torch.jit.load"):
            assert ast.unparse(keywords["weights_only"]) == "True", f"line {call.lineno}"
            loads += 1
        assert whole not in ("yaml.load", "torch.hub.load", "torch.save", "np.save") or whole == "np.save"
    assert loads == LOADS.get(here(path), 0)


def test_one_place_finds_the_target_of_a_node() -> None:
    """`build.locate` alone turns a `_target_` into a class, with `trust.module_at`."""
    users, importers, starters = set(), set(), set()
    for path in FILES:
        for call, name, _ in called(path):
            if name == "module_at":
                users.add(here(path))
            if name == "import_module":
                importers.add(here(path))
            if ast.unparse(call.func).startswith("subprocess."):
                starters.add((here(path), ast.unparse(call.func)))
    assert users == {"build.py"}
    assert importers == IMPORTS_BY_NAME
    assert starters == set(STARTS.items())
    functions = {f.name: f for f in ast.walk(parsed(PACKAGE / "build.py")) if isinstance(f, ast.FunctionDef)}
    inside = [n for n, f in functions.items() if any(getattr(c, "id", "") == "module_at" for c in ast.walk(f))]
    assert inside == ["locate"]


def test_every_stored_node_is_built_with_trust() -> None:
    """Folders that open runs never call `build` without saying whom they trust, but for what the user composed."""
    for path in FILES:
        if here(path).split("/")[0] in ("runs", "sampling", "evaluation") and here(path) != "runs/loggers.py":
            for call, name, bare in called(path):
                if name == "build" and bare:
                    assert "trust" in {k.arg for k in call.keywords}, f"{here(path)}:{call.lineno}"


def test_no_file_is_fetched_over_an_open_connection() -> None:
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith("http://"), f"{here(path)}:{node.lineno}"


def test_exceptions_from_the_rules_are_few_and_explained() -> None:
    """Each `noqa` of a security rule has its reason beside it."""
    lines = [(path, line) for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    exceptions = [(here(path), line) for path, line in lines if "noqa: S" in line and "SIM" not in line]
    assert len(exceptions) <= 6
    assert all(line.rstrip().endswith(")") for _, line in exceptions), exceptions
