"""What scoring a checkpoint costs, beside one image at a time."""
