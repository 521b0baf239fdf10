"""Weights & Biases as a view of the files: what is shown there can always be made again from ``runs/``."""
