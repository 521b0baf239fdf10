"""Reference errors: computed once per (pair, draw) and base model, and used by every cell that meets the pair again."""
