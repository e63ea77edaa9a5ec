"""What a GPU makes of our training and scoring, and whether it does so correctly."""
