"""MLflow: what a run folder holds, as runs, metrics and images."""
