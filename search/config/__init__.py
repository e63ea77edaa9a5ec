"""What is asked for: configuration file, search space and prompts. Knows no torch and no Ray."""
