"""What failed and why, and how to go on: try again, cancel, or free the space of what is not needed."""
