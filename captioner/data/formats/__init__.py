"""Readers of data sets: one module per layout of files; `registry` lists them."""
