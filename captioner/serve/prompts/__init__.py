"""What a chat prompt asks for."""
