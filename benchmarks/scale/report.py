"""What a search's report weighs and how long a browser takes to open it: synthetic runs, headless Chromium."""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from benchmarks.outcome import conclude, cores, print_table, spread
from benchmarks.scale.synthetic_run import write_synthetic_run
from search.report.figures import draw_figures
from search.report.report_page import write_report

TRIALS = (20, 200)

SIDE = 96
"""Of a picture, pixels: the largest that a report holds."""

GOALS = {"megabytes": 15.0, "seconds": 2.0}
"""Most that the report of 200 trials may weigh, and take until it is loaded (median)."""

TIMES = """
const [page] = performance.getEntriesByType("navigation");
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return {"painted": paint ? paint.startTime / 1000 : null, "loaded": page.loadEventEnd / 1000};
"""


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Few trials, opened once: that it runs, not how fast.")
    ] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Weigh and open reports of searches of several sizes."""
    logging.getLogger("optuna").setLevel(logging.ERROR)
    sizes, times = ((2, 3), 1) if quick else (TRIALS, 5)
    measured: dict[int, dict[str, Any]] = {}
    with _browser() as browser:
        for trials in sizes:
            with tempfile.TemporaryDirectory(prefix="report-") as folder:
                result, config, photos = write_synthetic_run(Path(folder), trials=trials, side=SIDE)
                page = write_report(result, config, photos, draw_figures(result, config))
                opened = [_open(browser, page) for _ in range(times)]
                painted = [one["painted"] for one in opened if one["painted"] is not None]
                measured[trials] = {
                    "megabytes": page.stat().st_size / 1e6,
                    "painted": painted,
                    "loaded": [one["loaded"] for one in opened],
                }
    _show(measured)
    largest = measured[sizes[-1]]
    met = {
        "megabytes": largest["megabytes"] < GOALS["megabytes"],
        "seconds": statistics.median(largest["loaded"]) < GOALS["seconds"],
    }
    outcome = {"benchmark": "report", "cores": cores(), "goals": GOALS, "met": met, "trials": measured}
    conclude(outcome, json_)


@contextmanager
def _browser() -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        typer.secho("no browser: install the Debian packages chromium and chromium-driver", err=True)
        raise typer.Exit(2)
    options = Options()
    options.binary_location = program
    for argument in ("--headless=new", "--window-size=1280,900", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield browser
    finally:
        browser.quit()


def _open(browser: Chrome, page: Path) -> dict[str, float | None]:
    """Seconds from the request to the first picture on the screen and to the end of loading."""
    browser.get("about:blank")
    browser.get(page.as_uri())
    times: dict[str, float | None] = browser.execute_script(TIMES)
    return times


def _show(measured: dict[int, dict[str, Any]]) -> None:
    rows: list[Sequence[str]] = [("trials", "megabytes", "seconds to first paint", "seconds to loaded")]
    for trials, one in measured.items():
        painted = spread(one["painted"]) if one["painted"] else "-"
        rows.append((str(trials), f"{one['megabytes']:.1f}", painted, spread(one["loaded"])))
    print_table(rows)


if __name__ == "__main__":
    typer.run(main)
