"""On-policy methods: the network is trained on its own samples of prompts, which a reward model scores."""
