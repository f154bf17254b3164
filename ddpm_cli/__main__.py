"""`python -m ddpm_cli` is `ddpm`."""

from .cli import main

main()
