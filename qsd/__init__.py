"""Shared training and evaluation for preference fine-tuning of text-to-image diffusion models.

The way of the data: data -> score -> select -> encode -> train -> generate -> evaluate (``qsd.stages``).
"""
