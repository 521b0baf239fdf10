"""The embedded emoji world: its assets and their builder."""
