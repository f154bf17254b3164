"""Hydra: from conf/ and the command line to plain values, and what is said when they do not fit."""
