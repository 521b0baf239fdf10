"""Builds the embedded emoji world: data, text-to-image model, reward models, judge, preference pairs."""
