"""The memory of a training step, before a byte of it is allocated."""
