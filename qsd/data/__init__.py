"""Preference data sets: readers, pair ids, images, and what was refused and why."""
