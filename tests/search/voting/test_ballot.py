"""Which pair comes next."""

import itertools
from collections import Counter

from search.voting.votes import Answer, Ballot, CandidateName, Vote, next_ballot

IMAGES = ((0, 1), (0, 2), (1, 1))


def names(count: int) -> list[CandidateName]:
    return [CandidateName(trial=f"{number:03}", step=100) for number in range(count)]


def vote(ballot: Ballot, answer: Answer) -> Vote:
    return Vote(ballot=ballot, answer=answer, id="", line=1)


def voted(count: int, candidates: list[CandidateName], *, seed: int = 0) -> list[Vote]:
    """Votes of somebody who always prefers the later trial."""
    votes: list[Vote] = []
    for _ in range(count):
        ballot = next_ballot(candidates, IMAGES, votes, seed=seed)
        votes.append(vote(ballot, Answer.LEFT if ballot.left > ballot.right else Answer.RIGHT))
    return votes


def test_no_pair_comes_twice_before_all_have_come_once() -> None:
    candidates = names(4)
    everything = 6 * len(IMAGES)
    votes = voted(2 * everything, candidates)
    wanted = {(*pair, *image) for pair in itertools.combinations(candidates, 2) for image in IMAGES}
    for half in (votes[:everything], votes[everything:]):
        assert Counter(one.ballot.pair for one in half) == Counter(wanted)


def test_every_candidate_comes_in_turn() -> None:
    candidates = names(6)
    votes = voted(30, candidates)
    assert {name for one in votes[:3] for name in (one.ballot.left, one.ballot.right)} == set(candidates)
    for count in range(1, 31):
        seen = Counter(name for one in votes[:count] for name in (one.ballot.left, one.ballot.right))
        assert max(seen.values()) - min(seen[name] for name in candidates) <= 3
    # 15 pairs of candidates: all have met before any has met often.
    assert max(Counter(one.ballot.pair[:2] for one in votes).values()) <= 3


def test_the_nearest_in_strength_is_met_of_those_met_equally_often() -> None:
    weak, middle, strong, new = names(4)
    ballots = [Ballot(left=strong, right=middle, prompt_index=0, seed=seed) for seed in (1, 2)]
    ballots += [Ballot(left=middle, right=weak, prompt_index=0, seed=seed) for seed in (1, 2)]
    ballots.append(Ballot(left=strong, right=weak, prompt_index=0, seed=1))
    votes = [vote(ballot, Answer.LEFT) for ballot in ballots]
    for seed in range(20):
        ballot = next_ballot((weak, middle, strong, new), IMAGES, votes, seed=seed)
        assert {ballot.left, ballot.right} == {new, middle}, "a new one stands at the mean, as the middle does"


def test_prompts_and_seeds_take_turns() -> None:
    votes = voted(9, names(3))
    assert set(Counter((one.ballot.prompt_index, one.ballot.seed) for one in votes).values()) == {3}


def test_the_same_seed_and_votes_give_the_same_ballot() -> None:
    candidates = names(5)
    votes = voted(12, candidates)
    ballots = [one.ballot for one in votes]
    assert [one.ballot for one in voted(12, candidates)] == ballots
    assert next_ballot(candidates, IMAGES, votes[:-1], seed=0) == ballots[-1], "a withdrawn vote comes again"
    assert [one.ballot for one in voted(12, candidates, seed=1)] != ballots


def test_sides_are_drawn() -> None:
    first, second = names(2)
    lefts = [next_ballot((first, second), IMAGES, [], seed=seed).left for seed in range(200)]
    # 200 tosses of a fair coin: four standard deviations are 28.
    assert abs(lefts.count(first) - 100) <= 28


def test_votes_on_a_checkpoint_that_is_no_candidate_any_more_do_not_matter() -> None:
    candidates = names(3)
    old = CandidateName(trial="000", step=50)
    votes = [vote(Ballot(left=old, right=candidates[1], prompt_index=0, seed=1), Answer.LEFT)]
    assert old not in {
        name
        for seed in range(20)
        for ballot in [next_ballot(candidates, IMAGES, votes, seed=seed)]
        for name in (ballot.left, ballot.right)
    }
