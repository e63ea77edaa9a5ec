"""A search by weights that nothing disturbs, with a judge of its own: one for all files of this folder."""

import pytest

from tests.support.short_search import SearchRun, finish, short_search, start, write_search

SHARPNESS = '''
"""How sharp a face is drawn: a judge of one's own."""

import numpy as np

from evaluation.measures import Measure


class Sharpness:
    measures = (Measure(name="sharpness", meaning="mean step of grey between neighbours", direction="maximize"),)

    def judge(self, pictures):
        grey = [np.asarray(image.convert("L"), dtype=np.float64) for image in pictures.images]
        return [{"sharpness": float(np.abs(np.diff(each, axis=0)).mean())} for each in grey]
'''


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    home = tmp_path_factory.mktemp("search")
    (home / "sharpness.py").write_text(SHARPNESS)
    content = short_search()
    content["evaluation"]["judges"] = ["sharpness:Sharpness"]
    content["evaluation"]["objective"] = {"measures": {"sharpness": {"weight": 0.05, "zero": "untuned", "one": "real"}}}
    ended = finish(start(home, str(write_search(home, content))), home)
    assert ended.code == 0, ended.output
    return ended
