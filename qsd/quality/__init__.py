"""Quality metrics: formulas over the winner and loser scores of a pair."""
