"""Power of a planned sweep: what it can detect, from which variances, and what more seeds or prompts would cost."""
