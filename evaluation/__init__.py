"""Measuring a fine-tuned model: images for fixed prompts and seeds, faces, CLIP scores, and one number."""
