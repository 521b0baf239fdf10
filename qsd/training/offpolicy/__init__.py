"""Fine-tuning on preference pairs. Start reading at ``method.py``."""
