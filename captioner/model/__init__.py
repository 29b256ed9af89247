"""Torch modules from pixels and tokens to logits; no tokenizer, files, loss or configuration."""
