"""Where the YAML that comes with the program lies."""

from pathlib import Path


def conf_dir() -> Path:
    """Inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
