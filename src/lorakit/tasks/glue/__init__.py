"""GLUE: its nine tasks and their files."""
