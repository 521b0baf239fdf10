"""Showing a sweep: the live display of a run, the status, the logs of its stages."""
