"""What is held fixed: one YAML file per experiment, and the emoji world."""
