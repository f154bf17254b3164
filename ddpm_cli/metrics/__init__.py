"""Figures of samples, classifiers and point sets, from tensors alone."""
