"""The final: the best candidates again, on other prompts and seeds, and who wins."""
