"""The champion's weights, as its users' programs read them."""

from __future__ import annotations

import shutil
from pathlib import Path

from search.final.final import Final


def export_champion(final: Final, folder: Path, name: str) -> Path:
    """Write the champion's weights: for diffusers under its own name, for ComfyUI and A1111 as `NAME.safetensors`.

    Returns:
        The diffusers file.
    """
    from trainer.adapters.adapter_files import WEIGHTS_FILE  # torch: only now
    from trainer.adapters.kohya import export_kohya

    source = final.champion.candidate.folder
    target = folder / WEIGHTS_FILE
    shutil.copyfile(source / WEIGHTS_FILE, target)
    export_kohya(folder, folder / f"{name}.safetensors")
    return target
