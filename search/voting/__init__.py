"""People vote on pairs of images, and the objective is held against their votes."""
