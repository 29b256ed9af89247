"""Runs over many files: which images there are, their rows in a file, the texts beside them."""
