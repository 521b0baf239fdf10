"""The steps of a cell's life: data, score, select, encode, train, generate, evaluate."""
