"""What failed and why, and what mends it: try again, end it, or free the space of what nobody needs."""
