"""The files of a run: training writes them, sampling and evaluation read them."""
