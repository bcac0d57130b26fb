"""YAML becomes one checked value: what is trained, on what, and how."""
