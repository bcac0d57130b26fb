"""Measurements of lorakit beside its peers, through public APIs only; see README.md."""
