"""Reference errors: computed once per (pair, draw) and base model, and used by every cell that meets the pair again."""

ACCOUNT = "reference.json"
"""File in the folder of a training's attempt: how many errors it found in the store, computed, and in what time."""
