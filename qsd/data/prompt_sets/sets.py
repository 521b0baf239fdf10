"""The prompt sets that experiments can name. Revisions are fixed; where a digest is known, a fetched file must have it.

The digests of the files on GitHub were computed from the repositories at these commits; that of DrawBench is the one
that the hub states for its file. For the lists of the HPS v2 authors none is known beforehand: what is fetched first
is recorded, and every later fetch is compared with it.
"""

from __future__ import annotations

from qsd.data.prompt_sets.layouts import (
    drawbench_table,
    geneval_lines,
    hpd_rankings,
    parti_table,
    style_lists,
    text_file,
)
from qsd.data.prompt_sets.prompt_set import PromptSet, SetFile
from qsd.data.style_lists import STYLES

SETS = (
    PromptSet(
        name="partiprompts",
        hub=False,
        repo="google-research/parti",
        revision="5a657978134374ce28973948331b319adef164bd",
        files=(SetFile("PartiPrompts.tsv", "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb"),),
        licence="Apache-2.0",
        about="PartiPrompts (arXiv 2206.10789): 12 categories",
        count=1632,
        read=parti_table,
    ),
    PromptSet(
        name="drawbench",
        hub=True,
        repo="Jialuo21/DrawBench",
        revision="870c4ef7e6c67eafa7c6e26ba79b7c0d52c9cb16",
        files=(
            SetFile(
                "data/test-00000-of-00001.parquet",
                "951d1d0162ff983840f0dc662c52a8b73a62d3a26db87294f43641fda739fe8e",
            ),
        ),
        licence="none stated by its authors",
        about="DrawBench (arXiv 2205.11487), a copy as parquet: 11 categories",
        count=200,
        read=drawbench_table,
    ),
    PromptSet(
        name="pickapic_v2_test",
        hub=False,
        repo="WhynotChen0105/Linear-DPO",
        revision="b273b9526326f7353c7d279d34cc5e9e60fc8716",
        files=(
            SetFile("data/pickapicv2_test500.txt", "7d2b148d7600a46c8ae7b35c2f1ccb6a5fd3f50c8ecc807e8a557feb590901ff"),
        ),
        licence="none stated by this repository",
        about="captions of Pick-a-Pic v2's test_unique, whose home was removed: the list of Linear-DPO's evaluation",
        count=500,
        read=text_file,
    ),
    PromptSet(
        name="hps_v2_400",
        hub=True,
        repo="ymhao/HPDv2",
        revision="1d2370c0ede1b9b161a68718492f5811b5141403",
        files=(SetFile("test.json"),),
        licence="Apache-2.0",
        about="prompts of HPD v2's test rankings (arXiv 2306.09341)",
        count=400,
        read=hpd_rankings,
    ),
    PromptSet(
        name="hps_v2_benchmark",
        hub=True,
        repo="zhwang/HPDv2",
        revision="260dbde75ab1c68e86d32a8e7739f1b49b100578",
        files=tuple(SetFile(f"benchmark/{style}.json") for style in STYLES),
        licence="none stated by this repository; HPD v2 is Apache-2.0",
        about="the HPS v2 benchmark (arXiv 2306.09341): 800 prompts in each of 4 styles, which are its splits",
        count=3200,
        read=style_lists,
    ),
    PromptSet(
        name="geneval",
        hub=False,
        repo="djghosh13/geneval",
        revision="af4902f24d3ca90ebbb446dd9891a59e0f82725f",
        files=(
            SetFile(
                "prompts/evaluation_metadata.jsonl",
                "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
            ),
        ),
        licence="MIT",
        about="GenEval (arXiv 2310.11513): 6 tasks; its own score needs an object detector, which is not here",
        count=553,
        read=geneval_lines,
    ),
    PromptSet(
        name="animals",
        hub=False,
        repo="kvablack/ddpo-pytorch",
        revision="1958463f020112c9a7bc85768d296daacc2e1b4b",
        files=(
            SetFile(
                "ddpo_pytorch/assets/simple_animals.txt",
                "ee3d9b638ce2a40e896a34319af85709d3c1c3188da0b8feda739dcb7363188d",
            ),
        ),
        licence="MIT",
        about="the 45 animals of DDPO (arXiv 2305.13301)",
        count=45,
        read=text_file,
    ),
)
