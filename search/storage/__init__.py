"""What is on disk: the run folder, its journal, the record of every trial and the result."""
