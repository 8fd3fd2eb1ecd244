"""Sets of photos: where they are read from, how they are decoded, what their labels mean."""
