"""From photos to batches of latents and text embeddings."""
