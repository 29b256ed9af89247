"""Implementations of the model interface in `captioner.backends.base`."""
