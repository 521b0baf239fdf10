"""Paired differences, their intervals and marks, the power of a sweep, and the rows of the result table."""
