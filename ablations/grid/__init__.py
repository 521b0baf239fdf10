"""A sweep file becomes cells: the grid of its axes, its controls and the base model, with the keys of their stages."""
