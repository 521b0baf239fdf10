"""Cells become a plan: unique stages by key, what is done, and why; how two cells differ."""
