"""transformers models: where the base of an adapter comes from."""
