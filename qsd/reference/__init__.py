"""Reference errors: computed once per (pair, draw) and base model, and used by every cell that meets the pair again."""

ACCOUNT = "reference.json"
"""In the folder of an attempt at a training: how many errors it found, how many it computed, and how long that took."""
