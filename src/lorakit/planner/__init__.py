"""Memory and parameters of a training step, before a byte of it is allocated."""
