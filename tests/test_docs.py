"""README and docs: links lead somewhere, commands compose, examples of one's own code run as printed."""

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ddpm_cli.config.arguments import prepared
from ddpm_cli.config.compose import compose_command
from ddpm_cli.config.launch import plain
from ddpm_cli.config.shipped import commands
from ddpm_cli.early import check_early

from .conftest import TINY, Cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PLACEHOLDERS = ("...", " D ", "[PATH", "NAME", "COMMAND", "KEY")


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert [n for n in NAMES[1:] if n != "docs/README.md" and n.removeprefix("docs/") not in index] == []


def typed(page: Path) -> list[str]:
    """The commands on a page, each once: those in blocks, with their continuations, and those in the text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^ *(ddpm .*)$", text, re.MULTILINE) + re.findall(r"`(ddpm [^`\n]*)`", text)
    words = {line: line.split() for line in dict.fromkeys(found)}
    return [line for line, w in words.items() if w[1] in commands() and not any(p in f"{line} " for p in PLACEHOLDERS)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_compose(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is one, and every value of its type."""
    monkeypatch.chdir(tmp_path)
    own = {name for name, _ in written(page)}
    for line in typed(page):
        _, command, *words = shlex.split(line, comments=True)
        overrides = [word for word in words if "=" in word]
        if "-m" in words:  # the first job of a sweep
            overrides = [
                word if "[" in word else word.partition(",")[0] for word in overrides if "interval(" not in word
            ]
        overrides = prepared(command, overrides)
        if any(Path(name).stem in re.split(r"[=,\[\]]", word) for name in own for word in overrides):
            continue  # run as printed, below
        config = compose_command(command, overrides)
        values = plain(OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"]))
        check_early(f"ddpm_cli.commands.{command}.Options", values)


def written(page: Path) -> list[tuple[str, str]]:
    """The files that a page tells its reader to write: blocks whose first line is a comment with their name."""
    text = page.read_text(encoding="utf-8")
    return [(name, body) for name, body in re.findall(r"```(?:python|yaml)\n# (\S+\.\w+)\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("page", [p for p in PAGES if written(p)], ids=lambda page: page.stem)
def test_own_code_runs_as_printed(page: Path, cli: Cli, tmp_path: Path) -> None:
    for name, body in written(page):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    own = {Path(name).stem for name, _ in written(page) if name.endswith(".yaml")}
    (line,) = [s for s in typed(page) if any(o in re.split(r"[=,\[\]\" ]", s) for o in own)]
    _, command, *overrides = shlex.split(line, comments=True)
    if command != "train":
        assert cli("train", "run_dir=outputs/latest", "trainer.steps=2", *TINY).code == 0
        result = cli(command, *overrides, "n=2", "ckpt=outputs/latest")
    else:
        result = cli(command, *overrides, "trainer.steps=2", *TINY)
    assert result.code == 0, result.err
