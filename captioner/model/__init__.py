"""Pixels and tokens to logits. Plain arguments; no tokenizer, no file, no loss."""
