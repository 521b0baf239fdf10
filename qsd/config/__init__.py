"""Configuration: a typed schema in which every field says whether it belongs to the meaning or to the execution."""
