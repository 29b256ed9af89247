"""Shards: tar files in the layout of WebDataset, and Parquet files, on disk or on a server."""

from __future__ import annotations

from captioner.data.shards.shard_rows import ShardRow, iterate_shard

__all__ = ["ShardRow", "iterate_shard"]
