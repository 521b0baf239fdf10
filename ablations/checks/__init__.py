"""Is all there that a sweep needs? The checks of ``ablate doctor``."""
