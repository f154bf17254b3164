"""Metrics of samples, classifiers and point sets, computed from tensors."""
