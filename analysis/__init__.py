"""From results to a document: reads ``runs/sweeps/<sweep>@<experiment>/cells.json`` and artefacts, nothing else.

The way of the numbers: ``data`` (the sweep, its long table of scores, arrays by seed, prompt and image) ->
``statistics`` (differences, intervals, marks: the rows) -> ``document`` and ``figures`` -> ``render``. ``report``
writes the files. What only shows written tables (``data.sweep``, ``data.rows``, ``document``, ``render.terminal``,
``lock``) imports neither numpy nor matplotlib, and nothing here imports torch.
"""
