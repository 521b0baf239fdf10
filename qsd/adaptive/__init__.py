"""How well flipped labels are found after a training, also by the minority metric of the loss ``adaptive_dpo``."""

DETECTOR_FILE = "detector.parquet"
"""What a training with injected label flips, or one that keeps annotators, writes of every pair that it has judged."""
