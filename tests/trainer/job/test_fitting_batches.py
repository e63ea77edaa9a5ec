"""What has fitted into memory in one job is what the next begins with."""

import pytest

from tests.support.small_memory import forward_holds
from tests.trainer.conftest import MakeConfig
from trainer.data.cache import DataCache
from trainer.job.fitting_batches import FirstBatch, FittingBatches
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel

REMARK = "begun with {} of {} photos in a forward pass, for with more memory ran out before; gradients accumulated"


def test_the_next_job_begins_with_what_has_fitted(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    fitting = FittingBatches()
    config = make_config(batch_size=4)
    assert fitting.start(config) == FirstBatch(size=4)
    with forward_holds(base, 2), TrainingJob(base, cache, config, micro_batch=4) as first:
        first.step()
    fitting.learn(first)
    alike, unlike = make_config(batch_size=4, rank=2, learning_rate=1e-5), make_config(batch_size=4, resolution=64)
    assert fitting.start(alike) == FirstBatch(size=2, remarks=(REMARK.format(2, 4),))
    assert fitting.start(unlike) == FirstBatch(size=4)
    assert fitting.start(make_config(batch_size=2)) == FirstBatch(size=2)
    with forward_holds(base, 2), TrainingJob(base, cache, alike, micro_batch=fitting.start(alike).size) as second:
        second.step()
        assert second.remarks == (), "it has not run out of memory again"


def test_a_job_that_fits_teaches_nothing(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    fitting = FittingBatches()
    with TrainingJob(base, cache, make_config(batch_size=4), micro_batch=2) as job:
        job.step()
    fitting.learn(job)
    assert fitting.start(make_config(batch_size=4)).size == 4


@pytest.mark.parametrize(("halvings", "size"), [(1, 2), (2, 1), (5, 1)])
def test_a_job_whose_process_died_of_it_begins_at_half(halvings: int, size: int, make_config: MakeConfig) -> None:
    begun = FittingBatches().start(make_config(batch_size=4), halvings)
    assert begun == FirstBatch(size=size, remarks=(REMARK.format(size, 4),))


def test_a_job_never_has_more_than_its_share_at_a_time(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    with TrainingJob(base, cache, make_config(batch_size=2), micro_batch=8) as job:
        assert job.micro_batch == 2
