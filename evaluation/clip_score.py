"""CLIP score: how well an image shows what its prompt says (Hessel et al. 2021, without their rescaling and clipping).

Legend: n = number of images; dim = width of CLIP's shared space.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, PreTrainedConfig

from evaluation.clip_files import clip_problem
from evaluation.judges import Pictures
from evaluation.loading_error import LoadingError, is_of_the_machine
from evaluation.measures import CLIP_MEASURES, CLIP_SCORE, MISMATCHED_CLIP_SCORE, RETRIEVED, SEED_DISTANCE, Value
from evaluation.memory import in_halves


class ClipScorer:
    """A CLIP model that scores (image, text) pairs, loaded once."""

    def __init__(self, name_or_path: str, device: torch.device | str, *, batch_size: int = 32) -> None:
        """Load CLIP in float32 from a folder or, by name, from the hub; safetensors only.

        Args:
            name_or_path: `openai/clip-vit-base-patch32`, or a folder with the model and its tokenizer.
            batch_size: images encoded together; it does not change the scores.

        Raises:
            ValueError: there is no such model, it is no whole CLIP (another architecture, weights missing or of another
                shape), or it has no safetensors.
            LoadingError: it could not be fetched or read here and now.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give at least 1")
        try:
            model = _load_model(name_or_path)
            self._tokenizer = CLIPTokenizer.from_pretrained(name_or_path)
            self._image_processor = _load_image_processor(name_or_path, model.config.vision_config.image_size)
        except Exception as error:  # what the hub's client throws shares no class
            if is_of_the_machine(error):
                raise LoadingError(f"the CLIP model {name_or_path!r} cannot be loaded now: {error}") from error
            if not isinstance(error, OSError | RuntimeError | ValueError | SafetensorError):
                raise
            raise ValueError(clip_problem(name_or_path, error)) from error
        model.requires_grad_(False)
        self._model = model.eval().to(device)
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._dimension = int(model.config.projection_dim)
        self._text_features: dict[str, torch.Tensor] = {}

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> NDArray[np.float64]:
        """100 x cosine of each image with its own text, [n], each in [-100, 100]. Long texts are cut as CLIP does.

        Raises:
            ValueError: there are not as many texts as images.
        """
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts; give one text for each image")
        each = np.einsum("nd,nd->n", self.embed_images(images), self.embed_texts(texts))
        return np.asarray(100.0 * np.clip(each, -1.0, 1.0))

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float64]:
        """CLIP's image embeddings, [n, dim], each of length 1."""
        with torch.inference_mode():
            embeddings = [
                embedding
                for start in range(0, len(images), self._batch_size)
                for embedding in in_halves(
                    images[start : start + self._batch_size], self._encode_images, free=torch.cuda.empty_cache
                )
            ]
            return np.asarray(torch.stack(embeddings).numpy()) if embeddings else np.empty((0, self._dimension))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """CLIP's text embeddings, [n, dim], each of length 1. Long texts are cut as CLIP does."""
        with torch.inference_mode():
            return np.asarray(self._encode_texts(texts).numpy()) if texts else np.empty((0, self._dimension))

    def _encode_images(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Unit vectors, [dim] each, float64, on the CPU."""
        # RGB first: the processor measures size before it converts.
        inputs = self._image_processor([image.convert("RGB") for image in images], return_tensors="pt")
        features = self._model.get_image_features(pixel_values=inputs["pixel_values"].to(self._device)).pooler_output
        return list(_unit(features))

    def _encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors, [batch, dim], float64; kept, since a search scores every candidate on the same few prompts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._text_features]
        if new:
            # Padded to the longest: attention is causal and pooling is at the first end token, so padding is not seen.
            tokens = self._tokenizer(new, padding=True, truncation=True, return_tensors="pt").to(self._device)
            features = self._model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            self._text_features.update(zip(new, _unit(features), strict=True))
        return torch.stack([self._text_features[text] for text in texts])


class ClipJudge:
    """Compares an image with all prompts of its set, and with the images of its prompt's other seeds."""

    measures = CLIP_MEASURES

    def __init__(self, scorer: ClipScorer) -> None:
        self._scorer = scorer

    def judge(self, pictures: Pictures) -> list[Mapping[str, Value]]:
        if not pictures.texts:
            return [{} for _ in pictures.images]
        images, texts = self._scorer.embed_images(pictures.images), self._scorer.embed_texts(pictures.texts)
        scores = 100.0 * np.clip(images @ texts.T, -1.0, 1.0)
        between = np.sqrt(np.maximum(2.0 - 2.0 * images @ images.T, 0.0))
        of = np.asarray(pictures.prompts)
        measured: list[Mapping[str, Value]] = []
        for place, (prompt, own) in enumerate(zip(of, scores, strict=True)):
            # A prompt that reads the same to CLIP is no other prompt.
            other = np.array([text != pictures.texts[prompt] for text in pictures.texts])
            siblings = (of == prompt) & (np.arange(len(of)) != place)
            of_image: dict[str, Value] = {CLIP_SCORE: float(own[prompt])}
            if other.any():
                of_image[MISMATCHED_CLIP_SCORE] = float(own[other].mean())
                of_image[RETRIEVED] = float(own[prompt] > own[other].max())
            if siblings.any():
                of_image[SEED_DISTANCE] = float(between[place, siblings].mean())
            measured.append(of_image)
        return measured


def _unit(features: torch.Tensor) -> torch.Tensor:
    # MPS has no float64; scores are only compared on the host anyway.
    return torch.nn.functional.normalize(features.cpu().to(torch.float64), dim=-1)


def _load_model(name_or_path: str) -> Any:
    """The whole model in float32. Transformers fills weights that are missing with random ones, other ones each time.

    Raises:
        ValueError: it is another kind of model, or weights are missing.
        OSError, RuntimeError, SafetensorError: as transformers reports files that are missing or damaged.
    """
    stated = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
    if stated != "clip":
        raise ValueError(f"its config.json says model_type {stated!r}, not 'clip'")
    model_class: Any = CLIPModel  # its stub does not know output_loading_info
    model, loaded = model_class.from_pretrained(
        name_or_path,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
    )
    lacking = sorted({*loaded["missing_keys"], *(key[0] for key in loaded["mismatched_keys"])})
    if lacking:
        raise ValueError(f"its file has no fitting weights for {len(lacking)} of the model's, such as {lacking[0]}")
    return model


def _load_image_processor(name_or_path: str, image_size: int) -> Any:
    """The model's own preprocessing; CLIP's defaults at the model's image size for a folder that states none.

    PIL's resampling is what CLIP was trained with, and needs no torchvision.
    """
    if Path(name_or_path).is_dir() and not (Path(name_or_path) / "preprocessor_config.json").is_file():
        return CLIPImageProcessorPil(
            size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
        )
    return CLIPImageProcessorPil.from_pretrained(name_or_path)
