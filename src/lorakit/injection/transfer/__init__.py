"""Between files and live models: where each tensor belongs, loading, saving."""
