"""The commands of ``ablate``, one module per purpose. Heavy modules are imported only when a command runs."""
