"""Adapters into and out of a live model, on and off disk."""
