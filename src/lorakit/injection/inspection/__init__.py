"""Reports on an adapted model, and the check that everything trains."""
