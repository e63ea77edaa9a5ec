"""The grammar of captions, and CLIP's loss over captions that fit several pictures."""

import numpy as np
import pytest
import torch

from demo.kit.captions import Attributes, caption, corpus, random_caption, subject_caption
from demo.kit.clip_model import anybody, contrastive_loss, matches
from demo.kit.tokenizer import build_tokenizer

KNOWN = Attributes(sex="man", expression="happy", hair="curly black hair", background="blue")


@pytest.mark.parametrize(
    ("adjective_first", "determiner", "expected"),
    [
        (True, "a", "a photo of a happy man with curly black hair, blue background"),
        (False, "a", "a photo of a man with curly black hair, happy, blue background"),
        (False, "sks", "a photo of sks man with curly black hair, happy, blue background"),
        (False, "", "a photo of man with curly black hair, happy, blue background"),
    ],
)
def test_both_word_orders(adjective_first: bool, determiner: str, expected: str) -> None:
    assert caption(KNOWN, adjective_first=adjective_first, determiner=determiner) == expected


def test_what_is_not_said_is_left_out() -> None:
    assert caption(Attributes()) == "a photo of a person"
    assert caption(Attributes(expression="angry"), adjective_first=True) == "a photo of an angry person"
    assert caption(Attributes(sex="woman", background="outdoors")) == "a photo of a woman, outdoors"


def test_a_subject_caption_says_no_hair() -> None:
    assert subject_caption("sad", "man", "gray") == "a photo of {trigger} man, sad, gray background"


def test_a_random_caption_says_only_what_is_true() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        text, said = random_caption(KNOWN, random)
        assert KNOWN.implies(said)
        assert ("happy" in text) == bool(said.expression)
        assert ("blue background" in text) == bool(said.background)
        assert ("curly" in text) == bool(said.hair)
        assert "sks" not in text


def test_matches_are_implications() -> None:
    sad = Attributes(sex="man", expression="sad", hair="curly black hair", background="blue")
    said = [Attributes(sex="man"), Attributes(expression="sad"), Attributes(sex="woman", expression="happy")]
    assert matches([KNOWN, sad], said).tolist() == [[1, 0, 0], [1, 1, 0]]


def test_clip_is_told_nothing_of_who_is_shown() -> None:
    random = np.random.default_rng(5)
    shown = [anybody(KNOWN, random) for _ in range(100)]
    assert {attributes.sex for attributes in shown} == {"man", "woman", "person"}
    assert {attributes.hair for attributes in shown} == {""}
    assert {(attributes.expression, attributes.background) for attributes in shown} == {("happy", "blue")}


def test_contrastive_loss_by_hand() -> None:
    # Equal logits: every softmax is 1/2, so each cross-entropy is log 2, whatever matches.
    matching = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert contrastive_loss(torch.zeros(2, 2), matching).item() == pytest.approx(np.log(2))
    # One match each: the usual symmetric cross-entropy of CLIP.
    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0]])
    target = torch.arange(2)
    usual = (
        torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
    ) / 2
    assert contrastive_loss(logits, torch.eye(2)).item() == pytest.approx(usual.item())


def test_every_caption_word_is_one_token_and_fits() -> None:
    captions = corpus(np.random.default_rng(0), 4000)
    tokenizer = build_tokenizer(captions)
    for text in captions[:300]:
        words = text.replace(",", " ,").split()
        assert len(tokenizer(text)["input_ids"]) == len(words) + 2 <= tokenizer.model_max_length
    assert tokenizer.convert_ids_to_tokens(tokenizer("sks é")["input_ids"])[1:4] == ["s", "k", "s</w>"]
