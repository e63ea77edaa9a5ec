"""The search: what to try next, what to stop, which adapter wins, and the record of it all."""
