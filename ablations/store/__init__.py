"""The artefact store: finished stages, jobs, claims on stages under way and by whom, the state of each."""
