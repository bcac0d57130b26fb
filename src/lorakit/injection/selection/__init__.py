"""Resolve a config on a model: which modules are adapted, with which settings."""
