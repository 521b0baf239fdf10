"""Prompts to evaluate on, and scores of the generated images."""
