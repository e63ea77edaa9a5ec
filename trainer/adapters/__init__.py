"""LoRA and its relatives: made, saved, loaded, exported."""
