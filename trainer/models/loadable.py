"""What a model is called by people who load it with diffusers later. Imports no diffusers unless it must."""

from pathlib import Path


def loadable(model: str) -> str:
    """What diffusers' `from_pretrained` takes for a base model: its name, or the folder made of a single file.

    Of a file that is not on this machine, or of which no folder can be made here, it is the name all the same.
    """
    path = Path(model)
    if path.suffix != ".safetensors" or not path.is_file():
        return model
    from trainer.models.single_file import diffusers_folder

    try:
        return str(diffusers_folder(path))
    except (ValueError, OSError):
        return model
