"""Runs over many images: finding them, their rows in a file, and the files beside them."""
