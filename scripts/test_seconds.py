"""The files of tests that took longest, from pytest's ``--junitxml``: what to look at when the tests take too long."""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree

SHOWN = 25


def main() -> None:
    """Print a line per file: seconds, number of tests, name."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
        name = case.get("classname", "")
        seconds[name] += float(case.get("time", 0))
        tests[name] += 1
    for name, time in seconds.most_common(SHOWN):
        print(f"{time:7.0f} s {tests[name]:5d}  {name}")
    print(f"{sum(seconds.values()):7.0f} s {tests.total():5d}  all")


if __name__ == "__main__":
    main()
