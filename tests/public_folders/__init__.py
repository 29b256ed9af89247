"""Build tiny transformers folders with random weights, one module for each group of families."""
