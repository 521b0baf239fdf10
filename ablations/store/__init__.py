"""The artefact store: finished stages, claims on those under way, the state of each, and freeing space."""
