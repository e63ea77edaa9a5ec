"""A search by weights that nothing disturbs: one for all files of this folder."""

import pytest

from tests.support.short_search import SearchRun, finish, start, write_search


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    home = tmp_path_factory.mktemp("search")
    ended = finish(start(home, str(write_search(home))), home)
    assert ended.code == 0, ended.output
    return ended
