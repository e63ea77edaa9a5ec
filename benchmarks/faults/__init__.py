"""What killed workers cost, and whether an interrupted search comes to the same."""
