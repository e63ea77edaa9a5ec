"""The person's photos: how they are split, checked and shown."""
