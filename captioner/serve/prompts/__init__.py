"""Detection of the task that a chat prompt requests."""
