"""Training: one engine (``engine.py``) that runs any method (``method.py``); a folder per method.

``offpolicy`` fine-tunes an adapter on preference pairs. ``qsd.reward_training`` trains reward models on the same
engine.
"""
