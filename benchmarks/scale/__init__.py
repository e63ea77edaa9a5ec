"""What a search of many trials costs its driver."""
