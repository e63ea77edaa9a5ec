"""The demo kit: small real models, photos of a fictional person, and the scripts that made both."""
