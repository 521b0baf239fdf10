"""The grid runner: a sweep YAML becomes cells, cells become deduplicated stages, stages become attempts.

The way through the package: ``spec`` (read a sweep) -> ``grid`` (cells) -> ``plan`` (unique stages) -> ``local`` (run
them, each by ``attempt``) -> ``finish`` (tables) and ``follow`` (W&B). ``store`` and ``claims`` keep results safe;
``states``, ``status`` and ``explain`` only look.
"""
