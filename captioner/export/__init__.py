"""Convert checkpoints for other runtimes."""
