"""The samplers by name, ours and Optuna's, each set up for searches of a few dozen trials that may be stopped early."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler

from search.config.sections import SamplerConfig
from search.config.space import Space
from search.study.samplers.learning_curves import CurveSampler


def make(config: SamplerConfig, space: Space, *, seed: int, steps: int) -> BaseSampler:
    """The sampler for a search.

    What a stopped trial teaches: learning curves take its values for what they are, those of a part of a training; TPE
    ranks it behind every complete one and keeps away from it; the Gaussian process and NSGA-II learn from complete
    trials only, so to them it is as if it had never been; QMC and random draws learn from none. None of them takes the
    value that a stopped trial had for one of a whole training.

    Args:
        config: Which one.
        space: What varies; a conditional setting is drawn apart from the others by all but learning curves and TPE.
        seed: Of its draws; the same seed and the same results in the same order propose the same configurations.
        steps: Optimizer steps of a training where the space does not say.
    """
    startup = config.startup
    with warnings.catch_warnings():
        # QMC and grouped TPE have been "experimental" for years; Optuna's version is pinned.
        warnings.simplefilter("ignore", ExperimentalWarning)
        match config.name:
            case "learning_curves":
                return CurveSampler(space, seed=seed, startup_trials=startup, steps=steps)
            case "tpe":
                return TPESampler(
                    seed=seed,
                    n_startup_trials=startup,
                    multivariate=True,  # rank, alpha and learning rate act together
                    # A model for each set that occurs together.
                    group=any(dimension.when for dimension in space.values()),
                    constant_liar=True,  # several trials run at once: do not propose the same place twice
                )
            case "gp":
                # Its trials under way count as if they had come out as expected, which keeps proposals apart.
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "qmc":
                # Scrambled: unscrambled it would begin with the lowest value of everything and ignore the seed.
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case "random":
                return RandomSampler(seed=seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=startup)
