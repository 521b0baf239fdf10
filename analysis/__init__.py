"""From results to comparisons: reads ``runs/sweeps/<sweep>@<experiment>/cells.json`` and artefacts, nothing else.

The way of the numbers: ``load`` (long table) -> ``pairing`` (arrays by seed, prompt and image) -> ``statistics``
(paired differences and intervals) -> ``rows`` -> ``tables``, ``figures`` and ``gallery``, written by ``report``.
"""
