"""The memory and the time of a training step, before a byte of it is allocated."""
