"""What starting a trial costs, beside a trainer started for each."""
