"""Data sets: where they come from, how they are read, and how batches of them are augmented."""
