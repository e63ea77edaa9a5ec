"""How often fresh photos are taken for copies of training photos, and copies for fresh photos."""
