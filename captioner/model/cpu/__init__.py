"""Modules for inference on a CPU."""
