"""A data cache in which every row has a picture and a caption of its own."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.data.cache import DataCache


def one_a_row(
    *,
    latent_mean: Tensor,
    latent_std: Tensor,
    face_mask: Tensor,
    conditioning: Mapping[str, Tensor],
    framing: Mapping[str, Tensor] | None = None,
) -> DataCache:
    """Of tensors with one row a row of the cache."""
    return DataCache(
        latent_mean=latent_mean,
        latent_std=latent_std,
        face_mask=face_mask,
        framing=framing or {},
        conditioning=conditioning,
        picture_of_row=torch.arange(len(latent_mean)),
        caption_of_row=torch.arange(len(latent_mean)),
    )
