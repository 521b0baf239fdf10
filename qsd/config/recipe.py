"""Which YAML files are recipes of a reward model's training, and no experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.config.fields import fields_of
from qsd.config.schema import ExperimentConfig
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def is_recipe(path: Path) -> bool:
    """Whether a file is the recipe of a reward model's training; False for one that cannot be read."""
    try:
        return has_keys_of_recipe(load(path))
    except UserError:
        return False


def has_keys_of_recipe(node: Node) -> bool:
    """Whether the top level has keys that only recipes have, and none that only experiments have."""
    from qsd.reward_training.schema import RewardTrainingConfig

    keys = {key.partition(".")[0] for key in node.value}
    of_recipes, of_experiments = (
        {name.partition(".")[0] for name in fields_of(schema)} for schema in (RewardTrainingConfig, ExperimentConfig)
    )
    return bool(keys & (of_recipes - of_experiments)) and not keys & (of_experiments - of_recipes)
