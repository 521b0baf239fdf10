"""The text-to-image model: its parts, its adapter, and the pipeline that draws with it."""
