"""The directory of a run: what lies in it, claimed and written atomically."""
