"""Captions and answers for very many images, on Ray Data.

The driver lists the input shards and keeps a manifest. Stateful workers load the model once and
turn each shard into one output part, which is written exactly once.
"""
