"""Which pair comes next."""

import itertools
from collections import Counter

from search.voting.next_pair import next_pair
from search.voting.votes import Answer, CheckpointName, ImagePair, Vote

IMAGES = ((0, 1), (0, 2), (1, 1))


def names(count: int) -> list[CheckpointName]:
    return [CheckpointName(trial=f"{number:03}", step=100) for number in range(count)]


def vote(pair: ImagePair, answer: Answer) -> Vote:
    return Vote(pair=pair, answer=answer, id="", line=1)


def voted(count: int, candidates: list[CheckpointName], *, seed: int = 0) -> list[Vote]:
    """Votes of somebody who always prefers the later trial."""
    votes: list[Vote] = []
    for _ in range(count):
        pair = next_pair(candidates, IMAGES, votes, seed=seed)
        votes.append(vote(pair, Answer.LEFT if pair.left > pair.right else Answer.RIGHT))
    return votes


def test_no_pair_comes_twice_before_all_have_come_once() -> None:
    candidates = names(4)
    everything = 6 * len(IMAGES)
    votes = voted(2 * everything, candidates)
    wanted = {(*pair, *image) for pair in itertools.combinations(candidates, 2) for image in IMAGES}
    for half in (votes[:everything], votes[everything:]):
        assert Counter(one.pair.key for one in half) == Counter(wanted)


def test_every_candidate_comes_in_turn() -> None:
    candidates = names(6)
    votes = voted(30, candidates)
    assert {name for one in votes[:3] for name in (one.pair.left, one.pair.right)} == set(candidates)
    for count in range(1, 31):
        seen = Counter(name for one in votes[:count] for name in (one.pair.left, one.pair.right))
        assert max(seen.values()) - min(seen[name] for name in candidates) <= 3
    # 15 pairs of candidates: all have met before any has met often.
    assert max(Counter(one.pair.key[:2] for one in votes).values()) <= 3


def test_the_nearest_in_strength_is_met_of_those_met_equally_often() -> None:
    weak, middle, strong, new = names(4)
    pairs = [ImagePair(left=strong, right=middle, prompt_index=0, seed=seed) for seed in (1, 2)]
    pairs += [ImagePair(left=middle, right=weak, prompt_index=0, seed=seed) for seed in (1, 2)]
    pairs.append(ImagePair(left=strong, right=weak, prompt_index=0, seed=1))
    votes = [vote(pair, Answer.LEFT) for pair in pairs]
    for seed in range(20):
        pair = next_pair((weak, middle, strong, new), IMAGES, votes, seed=seed)
        assert {pair.left, pair.right} == {new, middle}, "a new one stands at the mean, as the middle does"


def test_prompts_and_seeds_take_turns() -> None:
    votes = voted(9, names(3))
    assert set(Counter((one.pair.prompt_index, one.pair.seed) for one in votes).values()) == {3}


def test_the_same_seed_and_votes_give_the_same_pair() -> None:
    candidates = names(5)
    votes = voted(12, candidates)
    pairs = [one.pair for one in votes]
    assert [one.pair for one in voted(12, candidates)] == pairs
    assert next_pair(candidates, IMAGES, votes[:-1], seed=0) == pairs[-1], "a withdrawn vote comes again"
    assert [one.pair for one in voted(12, candidates, seed=1)] != pairs


def test_sides_are_drawn() -> None:
    first, second = names(2)
    lefts = [next_pair((first, second), IMAGES, [], seed=seed).left for seed in range(200)]
    # 200 tosses of a fair coin: four standard deviations are 28.
    assert abs(lefts.count(first) - 100) <= 28


def test_votes_on_a_checkpoint_that_is_no_candidate_any_more_do_not_matter() -> None:
    candidates = names(3)
    old = CheckpointName(trial="000", step=50)
    votes = [vote(ImagePair(left=old, right=candidates[1], prompt_index=0, seed=1), Answer.LEFT)]
    assert old not in {
        name
        for seed in range(20)
        for pair in [next_pair(candidates, IMAGES, votes, seed=seed)]
        for name in (pair.left, pair.right)
    }
