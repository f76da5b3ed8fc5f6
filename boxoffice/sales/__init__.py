"""What is on sale: the map of the hot path, its store, loading it into Redis."""
