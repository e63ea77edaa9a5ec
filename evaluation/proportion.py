"""A share of independent trials, with an interval that holds for few of them. Pure."""

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and the range that the trials at hand leave for it."""

    value: float
    lower: float
    upper: float


def wilson_interval(successes: float, count: int, *, level: float = 0.95) -> Estimate:
    """Score interval of a share (Wilson 1927): unlike the textbook's it stays within 0 to 1 and holds for few trials.

    Args:
        successes: 0 to `count`; halves may occur.
        count: At least 1.
        level: Probability that the interval is for, in (0, 1).

    Raises:
        ValueError: a count or level out of range.
    """
    if count < 1 or not 0.0 <= successes <= count:
        raise ValueError(f"{successes!r} successes of {count!r}; give at least one trial and no more successes")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level!r}; give a number between 0 and 1, such as 0.95")
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    share = successes / count
    spread = z * math.sqrt(share * (1.0 - share) / count + z**2 / (4.0 * count**2))
    middle, scale = share + z**2 / (2.0 * count), 1.0 + z**2 / count
    return Estimate(value=share, lower=max(0.0, (middle - spread) / scale), upper=min(1.0, (middle + spread) / scale))
