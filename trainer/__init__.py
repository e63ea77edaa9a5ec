"""Fine-tuning of LoRA adapters on a folder of captioned photos of one person."""

import logging


def _worth_telling(record: logging.LogRecord) -> bool:
    """False of what transformers says where diffusers asks for image processors that nothing here uses."""
    return "requires torchvision (not installed)" not in record.getMessage()


# Set before diffusers and transformers are imported, since it is their import that would say it.
logging.getLogger("transformers.utils.import_utils").addFilter(_worth_telling)
