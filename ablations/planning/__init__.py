"""From cells to a plan: unique stages, what is done, and why; how two cells differ."""
