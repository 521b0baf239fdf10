"""Reward models: psi(image, caption) -> one float, with a name, a revision and a unit."""
