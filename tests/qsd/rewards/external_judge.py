"""A judge for the tests: a program that imports nothing of the project, and misbehaves as its first argument says."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from typing import Any

STATED = {"name": "Brightness", "version": "3", "unit": "points", "weights": "ab" * 32}


def scores_of(items: list[dict[str, str]]) -> list[float | None]:
    """Bytes of the PNG and length of the caption; none for the caption ``unknown``."""
    return [
        None if item["caption"] == "unknown" else len(base64.b64decode(item["image"])) + len(item["caption"]) / 100
        for item in items
    ]


def answer_to(request: dict[str, Any], how: str) -> Any:
    """The answer of a judge that is right or wrong in some way."""
    scores: list[Any] = scores_of(request["items"])
    answers: dict[str, Any] = {
        "short": {"id": request["id"], "scores": scores[1:]},
        "text": {"id": request["id"], "scores": ["good"] * len(scores)},
        "true": {"id": request["id"], "scores": [True] * len(scores)},
        "nan": {"id": request["id"], "scores": [float("nan")] * len(scores)},
        "other id": {"id": -1, "scores": scores},
        "error": {"id": request["id"], "error": "out of\nmemory"},
        "list": scores,
    }
    return answers.get(how, {"id": request["id"], "scores": scores})


def main() -> None:
    how = sys.argv[1]
    if how == "no start":
        print("loading\nImportError: no such package", file=sys.stderr)
        sys.exit(3)
    if how == "silent":
        time.sleep(60)
    said = {**STATED, "version": "4"} if how == "other version" else STATED
    print("hello" if how == "chatty" else json.dumps(["I"] if how == "no statement" else said), flush=True)
    for number, line in enumerate(sys.stdin):
        if how == "slow":
            time.sleep(60)
        if how == "crash" and number:
            print("CUDA error", file=sys.stderr)
            os._exit(9)
        if how == "killed":
            os.kill(os.getpid(), 9)
        print(json.dumps(answer_to(json.loads(line), how)), flush=True)


if __name__ == "__main__":
    main()
