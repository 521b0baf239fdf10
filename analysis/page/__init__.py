"""``report.html``: one page with everything about a sweep, which works from disk, without a network."""
