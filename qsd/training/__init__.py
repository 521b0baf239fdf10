"""Preference fine-tuning of an adapter. Start reading at ``loop.py``."""
