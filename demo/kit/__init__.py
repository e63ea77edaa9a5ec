"""The scripts that made the kit."""
