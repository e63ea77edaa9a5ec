"""What a search costs until it has found a good adapter."""
