"""Shards: tar files in the layout of WebDataset, and Parquet files, on disk or on a server."""
