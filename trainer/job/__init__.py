"""One training: its loss, its optimizer, its steps, its state."""
