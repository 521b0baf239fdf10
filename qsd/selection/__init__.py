"""Selection strategies: how quality becomes a training subset or weights."""
