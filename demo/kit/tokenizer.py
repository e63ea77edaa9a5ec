"""The kit's own small tokenizer: byte-level BPE in CLIP's layout, learnt from captions."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

CONTEXT_LENGTH = 24
"""Tokens of a caption with its start and end."""

_START, _END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Iterable[str], *, largest: int = 700) -> CLIPTokenizer:
    """A CLIPTokenizer learnt from captions.

    Its vocabulary holds every byte, inside and at the end of a word, so any text can be written in it; then the merged
    pieces, learnt until there are `largest` pieces or every word of the captions is one.
    """
    layout = CLIPTokenizer(vocab={_START: 0, _END: 1}).backend_tokenizer
    learner = Tokenizer(BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    learner.normalizer = layout.normalizer
    learner.pre_tokenizer = layout.pre_tokenizer
    trainer = BpeTrainer(vocab_size=largest, show_progress=False, end_of_word_suffix="</w>")
    learner.train_from_iterator(captions, trainer)
    merges = [(first, second) for first, second in json.loads(learner.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    merged = [first + second for first, second in merges]
    pieces = dict.fromkeys([*alphabet, *(f"{letter}</w>" for letter in alphabet), *merged, _START, _END])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    # Pairs are what the backend takes; the annotation says strings.
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)  # type: ignore[arg-type]
