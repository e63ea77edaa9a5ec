"""Fine-tuning of LoRA adapters on a folder of captioned photos of one person."""
