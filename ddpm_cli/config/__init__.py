"""Hydra: composes plain values from conf/ and the command line, and explains mistakes in them."""
