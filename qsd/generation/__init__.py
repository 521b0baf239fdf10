"""Images of a cell for its evaluation: fixed prompts, fixed initial noise."""
