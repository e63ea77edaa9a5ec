"""What to try next and what to stop: Tune, the schedulers, the budget."""
