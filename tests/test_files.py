"""Paths in advice can be typed as printed."""

import shlex

import pytest

from ddpm_cli.config.compose import compose_command
from ddpm_cli.files import override


@pytest.mark.parametrize(
    "path",
    [
        "outputs/run",
        "a b",
        "a=b",
        "it's",
        'say "x"',
        "(1)",
        "a,b",
        "~x",
        "é",
        "{x}",
        "$x",
        "1e3",
        "nan",
        "null",
        "a\\b",
        "a\\",
        "[a]",
    ],
)
def test_a_path_is_quoted_for_shell_and_hydra(path: str) -> None:
    typed = override("ckpt", path)
    arguments = shlex.split(f"ddpm sample {typed}")
    assert len(arguments) == 3
    assert str(compose_command("sample", arguments[2:]).ckpt) == str(path)
    if path == "outputs/run":
        assert typed == "ckpt=outputs/run"
