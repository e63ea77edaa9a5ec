"""Numbers, switches and seeds as people write them, and keys that are given twice."""

from tests.odd_input.case import CONFIGURATION, TRAINING, Case, append, replace, setting

TRAIN = ("trainer.run", TRAINING)


def boolean(key: str, written: str) -> Case:
    """A switch for a setting that is a number, in the file of a search."""
    name = key.rpartition(".")[2]
    return Case(
        f"boolean-{key}-{written}",
        replace(CONFIGURATION, "batch_size: 4}", f"batch_size: 4, {name}: {written}}}"),
        says=(f"training.{name}: {written} stands where a number is due; give the number", f"{CONFIGURATION}"),
    )


def refused(pair: str, *says: str) -> Case:
    return Case(f"set-{pair}", command=setting(pair), says=says)


CASES = [
    Case("nothing-odd", exit_code=0, says=("photos:",)),
    boolean("horizontal_flip", "true"),
    boolean("rank", "true"),
    boolean("noise_offset", "on"),
    boolean("caption_shuffle", "yes"),
    boolean("snr_gamma", "True"),
    boolean("steps", "off"),
    Case(
        "boolean-in-a-training-run",
        replace(TRAINING, "rank: 4", "rank: 4, horizontal_flip: true"),
        TRAIN,
        says=("training.horizontal_flip: true stands where a number is due", "line 4, column"),
    ),
    refused("training.horizontal_flip=true", "--set 'training.horizontal_flip=true'", "true stands where a number"),
    refused(
        "space.horizontal_flip={values: [true, 0.5]}",
        "space.horizontal_flip may draw True: horizontal_flip is True; give a number",
    ),
    refused("evaluation.seeds=[true]", "true stands where a number is due"),
    Case("switches-in-words", command=setting("photos.buckets=yes", "stopping.enabled=off"), exit_code=0),
    Case("precision-no", command=setting("training.mixed_precision=no"), exit_code=0),
    Case(
        "a-time-for-minutes",
        append(CONFIGURATION, "budget: {max_minutes: 1:30}\n"),
        says=("budget.max_minutes", "(found '1:30'); give minutes as a number, such as 90, or hours, such as 1.5"),
    ),
    refused("budget.max_minutes=6:30:00", "give minutes as a number, such as 390, or hours, such as 6.5"),
    refused("training.horizontal_flip=50%", "write a share as a number: 50% is 0.5"),
    refused("training.learning_rate=0,0001", "(found '0,0001'); write a number with a decimal point and no commas"),
    refused("training.learning_rate=1.000,5", "write a number with a decimal point and no commas"),
    refused("trials=3 # three", "(found '3 # three'); give a number"),
    Case(
        "a-decimal-comma-within-braces",
        replace(CONFIGURATION, "{low: 1e-3,", "{low: 0,001,"),
        says=("001 stands alone behind a comma; a number has a decimal point, as 0.0001", "line 6, column"),
    ),
    Case(
        "octal-seed",
        append(CONFIGURATION, "seed: 0123\n"),
        says=("seed: 0123 begins with a zero; write 123", "line 19, column 7"),
    ),
    refused("training.seed=0o17", "training.seed", "(found '0o17'); give a number"),
    Case("whole-numbers-as-floats", command=setting("space.steps={low: 2e1, high: 40.0, step: 2e1}"), exit_code=0),
    Case(
        "whole-numbers-on-a-logarithmic-scale", command=setting("space.rank={low: 4, high: 64, log: true}"), exit_code=0
    ),
    Case(
        "values-as-text",
        command=setting('space.alpha={values: ["8", 16]}', "space.rank={values: [4.0, 8]}"),
        exit_code=0,
    ),
    refused('space.alpha={values: ["eight", 16]}', "space: alpha is a number, not 'eight'; give a number"),
    refused('space.alpha={values: ["0,5", 16]}', "alpha is a number, not '0,5'; write a number with a decimal point"),
    refused("space.steps={low: 2.5, high: 40}", "steps.low is 2.5; steps takes whole numbers only"),
    refused(
        "space.learning_rate={low: 1e-4, high: 1e-2, step: 1e-4}", "learning_rate has a step", "leave the step out"
    ),
    refused("space.learning_rate={low: .nan, high: 1}", "space.learning_rate.low", "finite number (found nan)"),
    refused("space.learning_rate={low: 1e-4, high: .inf}", "space.learning_rate.high", "finite number (found inf)"),
    refused(
        "space.rank=8", "rank is 8; give a range, as {low: 1, high: 8}, or values, as {values: [4, 8]}", "training"
    ),
    refused("space.rank=[4, 8]", "rank is [4, 8]; give a range"),
    refused("space.rank={low: 4, high: 64, log: true, step: 4}", "step is 4, which does not go with log"),
    refused(f"training.steps={'9' * 400}", "this number has more than 20 digits; give a smaller one"),
    *(
        refused(f"{key}=-1", f"{key}: Input should be greater than or equal to 0 (found -1)")
        for key in ("seed", "photos.seed")
    ),
    *(
        refused(f"{key}=4294967296", f"{key}: Input should be less than or equal to 4294967295 (found 4294967296)")
        for key in ("seed", "photos.seed")
    ),
    *(
        refused(f"{key}=[-1]", f"{key}.0: Input should be greater than or equal to 0")
        for key in ("evaluation.seeds", "final.seeds")
    ),
    *(
        refused(f"{key}=[9223372036854775808]", f"{key}.0: Input should be less than or equal to 9223372036854775807")
        for key in ("evaluation.seeds", "final.seeds")
    ),
    *(refused(f"{key}=[3, 3]", f"{key}: [3, 3] must not repeat") for key in ("evaluation.seeds", "final.seeds")),
    refused("training.seed=-1", "seed is -1; it must lie between 0 and"),
    refused("training.seed=9223372036854775807", "seed is 9223372036854775807; in a search it must be at most"),
    Case(
        "highest-seeds",
        command=setting("seed=4294967295", "photos.seed=4294967295", "training.seed=4611686018427387904"),
        exit_code=0,
    ),
    refused("final.retrain=1000000", "final.retrain: Input should be less than or equal to 100"),
    refused("trials=1000000", "trials: Input should be less than or equal to 100000"),
    Case(
        "a-section-twice",
        append(CONFIGURATION, "training: {lr_warmup_steps: 5}\n"),
        says=(
            "the key 'training' is given here",
            "line 4, column 1",
            "and here again",
            "line 19, column 1",
            "keep one",
        ),
    ),
    Case(
        "a-key-twice",
        replace(CONFIGURATION, "  seeds: [1]\n", "  seeds: [1]\n  seeds: [7, 8]\n"),
        says=("the key 'seeds' is given here", "line 12, column 3", "line 13, column 3"),
    ),
    Case(
        "a-key-twice-in-a-training-run",
        replace(TRAINING, "steps: 6,", "steps: 6, steps: 4000,"),
        TRAIN,
        says=("the key 'steps' is given here", "and here again"),
    ),
    refused("space.rank={low: 4, high: 8, low: 6}", "the key 'low' is given here", "and here again"),
    Case(
        "text-encoder-settings-without-a-text-encoder",
        replace(CONFIGURATION, "batch_size: 4}", "batch_size: 4, text_encoder_learning_rate: 0, text_encoder_rank: 8}"),
        says=("text_encoder_rank would change nothing, since text_encoder_learning_rate is 0", "leave it out"),
    ),
    Case(
        "text-encoder-settings-without-a-text-encoder-in-a-training-run",
        replace(TRAINING, "rank: 4,", "rank: 4, text_encoder_learning_rate: 0, text_encoder_steps: 2,"),
        TRAIN,
        says=("text_encoder_steps would change nothing, since text_encoder_learning_rate is 0",),
    ),
    Case(
        "a-text-encoder-that-some-trials-train",
        command=setting("space.text_encoder_learning_rate={values: [0, 1e-3]}", "training.text_encoder_rank=4"),
        exit_code=0,
    ),
]
