"""On-policy methods."""
