"""What failed and why, and what mends it: try again, or end it."""
