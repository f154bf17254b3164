"""The program as a whole: usage, version, completion, the wheel."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from ddpm_cli.config.shipped import commands

ROOT = Path(__file__).parents[1]
MAIN = "import sys; sys.argv[0] = 'ddpm'; from ddpm_cli.cli import main; main()"


def ddpm(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | (env or {})
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], text=True, capture_output=True, env=environment, check=False
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_usage(arguments: list[str]) -> None:
    result = ddpm(*arguments)
    assert result.returncode == 0 and not result.stderr
    assert all(f"  {name}" in result.stdout for name in commands())


def test_version() -> None:
    result = ddpm("--version")
    assert result.returncode == 0 and result.stdout.startswith("ddpm ")


def test_an_unknown_command_gets_a_suggestion() -> None:
    result = ddpm("trian")
    assert result.returncode == 2
    assert result.stderr == "ddpm: error: trian: is not a command; did you mean 'train'?\n"


def imported(*arguments: str, typed: str | None = None, cwd: Path | None = None) -> tuple[int, set[str]]:
    """The exit code of `ddpm arguments`, and the modules that its process had imported when it ended."""
    check = f"import atexit, sys; atexit.register(lambda: print('modules', *sys.modules, file=sys.stderr)); {MAIN}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if typed is not None:
        environment |= {"COMP_LINE": typed, "COMP_POINT": str(len(typed))}
    command = [sys.executable, "-c", check, *arguments]
    result = subprocess.run(command, text=True, capture_output=True, env=environment, cwd=cwd, check=False)
    line = next(line for line in result.stderr.splitlines() if line.startswith("modules "))
    modules = line.split()[1:]
    return result.returncode, {name.partition(".")[0] for name in modules} | set(modules)


SLOW = {"torch", "torchvision", "sklearn", "scipy", "matplotlib", "tensorboard", "imageio"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["trian"]])
def test_neither_torch_nor_hydra_is_imported_for_usage(arguments: list[str]) -> None:
    _, modules = imported(*arguments)
    assert "ddpm_cli.cli" in modules and not modules & (SLOW | {"hydra", "omegaconf"})


@pytest.mark.parametrize(("typed", "needed"), [("ddpm tr", False), ("ddpm ", False), ("ddpm train dataset=ci", True)])
def test_completion_imports_hydra_only_for_the_config_of_a_command(typed: str, needed: bool) -> None:
    code, modules = imported("-sc", "query=bash", typed=typed)
    assert code == 0 and not modules & SLOW and ("hydra" in modules) == needed


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["train", "modle=unet"],
        ["train", "model.chanels=3"],
        ["train", "dataset=cifra10"],
        ["train", "trainer.steps=many"],
        ["train", "trainer.batch_size=0"],
        ["train", "trainer.ema.decay=2"],
        ["train", "dataset.size=big"],
        ["train", "sampler=heun", "sampler.spacing=wide"],
        ["sample", "n=x"],
        ["bench", "what=speed"],
        ["bench", "what=train", "windows=few"],
    ],
    ids=" ".join,
)
def test_torch_is_not_imported_to_find_a_mistake(arguments: list[str], tmp_path: Path) -> None:
    code, modules = imported(*arguments, cwd=tmp_path)
    assert code == (0 if "--help" in arguments else 2) and not modules & SLOW


def test_packages_that_the_first_step_does_not_need_are_not_imported(tmp_path: Path) -> None:
    small = ["model.channels=8", "trainer.batch_size=2", "trainer.sample_every=0", "trainer.eval_every=0"]
    code, modules = imported("train", "trainer.steps=1", "logger=none", "run_dir=run", *small, cwd=tmp_path)
    assert code == 0 and "torch" in modules
    assert not modules & (SLOW - {"torch", "imageio"})
    code, modules = imported("train", "schedule=flow", "run_dir=other", cwd=tmp_path)  # incompatible with objective=v
    assert code == 2 and "torch" in modules and not modules & (SLOW - {"torch", "imageio"})


def test_fish_gets_a_line_for_each_command() -> None:
    result = ddpm("-sc", "query=fish", env={"COMP_LINE": "ddpm ", "COMP_POINT": "5"})
    assert result.stdout.splitlines() == list(commands())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ddpm tr", {"train"}),
        ("ddpm ", {"train", "sample", "gif"}),
        ("ddpm train data", {"dataset="}),
        ("ddpm train dataset=cif", {"dataset=cifar10", "dataset=cifar100"}),
        ("ddpm train optimizer.l", {"optimizer.lr="}),
        ("ddpm sample weig", {"weights="}),
    ],
)
def test_completion(line: str, expected: set[str]) -> None:
    result = ddpm("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert expected <= set(result.stdout.split()), result


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_can_be_installed(shell: str) -> None:
    result = ddpm("-sc", f"install={shell}")
    assert result.returncode == 0 and "ddpm" in result.stdout + shell


def test_the_wheel_works_from_another_directory(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                               check=True, capture_output=True, text=True).stdout.strip())  # fmt: skip
    # the wheel's own files in the new environment; what it depends on from this one, so that nothing is downloaded
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel],
        check=True,
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments: str) -> str:
        command = [python, "-c", MAIN, *arguments]
        result = subprocess.run(command, cwd=elsewhere, env=environment, text=True, capture_output=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    command = [python, "-c", "import ddpm_cli.cli as c, ddpm_cli.config.shipped as s; print(c.__file__, s.conf_dir())"]
    paths = subprocess.run(command, cwd=elsewhere, env=environment, text=True, capture_output=True, check=True).stdout
    assert paths.split() == [str(site / "ddpm_cli/cli.py"), str(site / "ddpm_cli/conf")]
    run("train", "run_dir=run", "trainer.steps=1", "trainer.batch_size=2", "trainer.samples=2", "sampler.steps=2")
    run("sample", "n=1", "sampler.steps=2", "out=s")
    assert (elsewhere / "s/sample.json").is_file()
