"""Between bundles and live models: matching, loading, saving."""
