"""What a model carries: reports, and whether everything trains."""
