"""Whether the winner is really better."""
