"""Latents and text embeddings, computed once and read at random."""
