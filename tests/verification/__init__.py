"""Tests of `ddpm verify`."""
