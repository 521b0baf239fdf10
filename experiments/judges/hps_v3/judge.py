"""HPS v3 as a judge in an environment of its own (docs/reward_models.md, "A judge in its own process").

    python judge.py WEIGHTS --describe > config.json      which judge this is; reads all of WEIGHTS
    python judge.py WEIGHTS                               answers on standard output until its input ends

WEIGHTS is ``HPSv3.safetensors`` of MizzenAI/HPSv3 on the Hugging Face hub (about 16 GB). It needs the package ``hpsv3``
and what that needs; nothing of this project is imported, so its pins conflict with no others. NOT RUN HERE with the
published weights: only the protocol was tested, with a stand-in for the package.

What to know of the package:

- ``reward`` takes (image_paths, prompts) in one published version and (prompts, image_paths) in another: by name only.
- It gives (mu, sigma) of each image; the score is mu.
- It uses FlashAttention if ``flash_attn`` can be imported, and other attention if not: other last digits. VERSION names
  which one it is, so scores of the two are never mixed.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import sys
from pathlib import Path


def statement(weights: str) -> dict[str, str]:
    """Name, version, unit and the SHA-256 of the weights."""
    total = hashlib.sha256()
    with Path(weights).open("rb") as stream:
        while part := stream.read(1 << 24):
            total.update(part)
    attention = "flash" if importlib.util.find_spec("flash_attn") else "sdpa"
    versions = "-".join(importlib.metadata.version(name) for name in ("hpsv3", "transformers", "torch"))
    return {"name": "HPSv3", "version": f"{versions}-{attention}", "unit": "reward", "weights": total.hexdigest()}


def main() -> None:
    """Describe the judge, or answer requests."""
    weights, describe = str(Path(sys.argv[1]).resolve()), "--describe" in sys.argv[2:]
    # Libraries print to standard output, which belongs to the protocol: they get standard error instead.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    said = statement(weights)
    if describe:
        answers.write(json.dumps(said, indent=1) + "\n")
        return

    from hpsv3 import HPSv3RewardInferencer
    from PIL import Image

    judge = HPSv3RewardInferencer(device=os.environ.get("QSD_DEVICE", "cuda"), checkpoint_path=weights)

    def send(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    send(dict(said))
    for line in sys.stdin:
        request = json.loads(line)
        items = request["items"]
        images = [Image.open(io.BytesIO(base64.b64decode(item["image"]))).convert("RGB") for item in items]
        rewards = judge.reward(prompts=[item["caption"] for item in items], image_paths=images)
        scores = [float(reward[0]) for reward in rewards]
        # A score that is no number is null: it is then counted as missing, and never ranked.
        send({"id": request["id"], "scores": [score if abs(score) < float("inf") else None for score in scores]})


if __name__ == "__main__":
    main()
