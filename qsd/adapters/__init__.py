"""LoRA adapters as files: the layouts that are read and written, the facts inside a file, the model card beside it."""
