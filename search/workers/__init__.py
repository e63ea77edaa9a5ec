"""Where jobs run: warm workers that train and score, and the dispatcher that hands jobs to them."""
