"""Which modules a config means, and with which settings."""
