"""After a failure: try again, stop, and free space."""
