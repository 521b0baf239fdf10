"""What a run shows: the live board, the status of a sweep, the logs of its stages."""
