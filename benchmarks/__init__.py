"""What we claim about speed and cost, as commands."""
