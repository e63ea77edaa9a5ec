"""The report of a search in a real browser: what it weighs, shows and tells, with a mouse, a finger and a keyboard.

With LIKENESS_SCREENSHOTS=runs/NAME the screenshots that the documentation names are taken of that run and written into
docs/; without it they are taken of a synthetic run and thrown away.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.scale.synthetic_run import write_synthetic_run
from search.config.run_layout import RunLayout, checkpoint_folder
from search.storage.result import read_result
from search.storage.trial_record import CheckpointResult
from tests.support.command import CEILING
from tests.support.report_page import changed, write_page
from trainer.files import write_file

DOCS = Path(__file__).resolve().parents[3] / "docs"
PHONE = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
HOSTILE = "a photo of {trigger} man <script>document.title = 'planted'</script><img src=x onerror=\"document.title=1\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of twelve trials, one of them faceless, with a hostile prompt."""
    home = tmp_path_factory.mktemp("small")
    return write_page(*write_synthetic_run(home, trials=12, prompts=[HOSTILE], rates=[1e-4, 9.9e-3, 1e-3]))


def show(browser: Chrome, page: Path) -> None:
    browser.get(page.as_uri())


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def told(browser: Chrome) -> str:
    """What the page tells about the mark under the pointer or in the focus; nothing if it tells nothing."""
    tip = browser.find_element(By.ID, "tip")
    return tip.text if tip.is_displayed() else ""


def label(element: WebElement) -> str:
    return element.get_attribute("aria-label") or ""


def complaints(browser: Chrome) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return messages


def test_two_hundred_trials_are_one_small_file(
    browser: Chrome, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    result, config, photos = write_synthetic_run(tmp_path, trials=200)
    page = write_page(result, config, photos)
    assert page.stat().st_size < 15e6
    show(browser, page)
    timing = browser.execute_script("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    record_property("megabytes", page.stat().st_size / 1e6)
    record_property("seconds_to_load", timing / 1000)
    rows = browser.find_elements(By.CSS_SELECTOR, "#trial-table tbody tr")
    assert len(rows) == 200
    marks = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map((one) => one.querySelectorAll('.mark').length)"
    )
    finalists = len(result.outcome.finalists)
    # Strengths, intervals, dots and front, importance of three settings, parallel coordinates, four curves.
    assert marks == [2, finalists, 201, 3, 200, 200, 200, 200, 200]
    grids = browser.find_elements(By.CSS_SELECTOR, ".grid")
    shown = [len(grid.find_elements(By.CSS_SELECTOR, "[data-row]")) for grid in grids]
    assert shown[:2] == [2, 6]
    assert shown[-1] == 201, "every trial has its row of pictures"


def test_nothing_is_fetched_and_nothing_planted_runs(browser: Chrome, report: Path) -> None:
    show(browser, report)
    policy = browser.find_element(By.CSS_SELECTOR, "meta[http-equiv]").get_attribute("content") or ""
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'nonce-")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.title == "anna: champion", "what the prompt plants is text"
    assert browser.execute_script("return document.scripts.length") == 1
    prompts = browser.execute_script("return [...document.querySelectorAll('ol li')].map((one) => one.textContent)")
    assert any("<script>" in prompt for prompt in prompts)
    assert complaints(browser) == [], "the page breaks none of its own rules"


def test_a_picture_tells_its_scores(browser: Chrome, report: Path) -> None:
    show(browser, report)
    picture = browser.find_element(By.CSS_SELECTOR, "#pictures .champion [aria-label]")
    ActionChains(browser).scroll_to_element(picture).move_to_element(picture).perform()
    champion = read_result(report.parent).outcome.champion
    assert champion is not None
    layout = RunLayout(report.parent)
    folder = layout.finalist(champion.trial, champion.step)
    if champion.shipped_seed is not None:
        folder = checkpoint_folder(layout.retraining(champion.trial, champion.shipped_seed), champion.step)
    first, anchors = CheckpointResult.read(folder).rows[0], CheckpointResult.read(layout.base("final")).anchors()
    assert first.face_distance is not None
    likeness = (anchors.untuned["face_distance"] - first.face_distance) / (anchors.untuned["face_distance"] - 0.4)
    fidelity = first.clip_score / anchors.untuned["clip_score"]
    text = told(browser)
    assert text.startswith("likeness ")
    assert f"(champion, trial {champion.trial}; seed 101; a photo of {{trigger}} man, last scene 0)" in text
    found = [float(word.rstrip(",")) for word in text.split() if word.rstrip(",").replace(".", "").isdigit()]
    assert found[0] == pytest.approx(likeness, abs=0.006)
    assert found[1] == pytest.approx(fidelity, abs=0.006)
    press(browser, Keys.ESCAPE)
    assert told(browser) == ""


def test_with_the_keyboard_alone(browser: Chrome, report: Path) -> None:
    """Tab stops once at every figure and grid that is open; arrow keys move within it; Enter leads to the trial."""
    show(browser, report)
    expected = browser.execute_script(
        """return [...document.querySelectorAll("a[href]:not([tabindex]), button, summary, [tabindex='0']")]
             .filter((one) => one.checkVisibility()).length"""
    )
    assert expected > 40
    reached = []
    for _ in range(expected):
        press(browser, Keys.TAB)
        reached.append(browser.execute_script("return document.activeElement"))
    assert len({element.id for element in reached}) == expected, "each once"
    outlined = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outlined in ("solid", "auto")
    figures = [element for element in reached if "mark" in (element.get_attribute("class") or "").split()]
    assert len(figures) == len(browser.find_elements(By.TAG_NAME, "svg"))

    line = browser.find_element(By.CSS_SELECTOR, "#curves .mark[tabindex='0']")
    reach = line.find_element(By.CLASS_NAME, "reach")
    assert float(reach.value_of_css_property("stroke-opacity")) == 0.0
    browser.execute_script("arguments[0].focus()", line)
    assert float(reach.value_of_css_property("stroke-opacity")) == pytest.approx(0.45), "a wide band lies around it"

    dot = browser.find_element(By.CSS_SELECTOR, "#front [tabindex='0']")
    browser.execute_script("arguments[0].focus()", dot)
    assert told(browser) == label(dot)
    press(browser, Keys.ARROW_RIGHT)
    second = browser.switch_to.active_element
    assert label(second) == told(browser) != label(dot)
    press(browser, Keys.END)
    assert label(browser.switch_to.active_element) == told(browser)
    press(browser, Keys.HOME)
    assert browser.switch_to.active_element == dot
    press(browser, Keys.ARROW_RIGHT, Keys.ENTER)
    row = browser.switch_to.active_element
    assert f"#{row.get_attribute('id')}" == second.get_dom_attribute("href")
    assert row.tag_name == "tr"

    picture = browser.find_element(By.CSS_SELECTOR, "#pictures .grid [tabindex='0']")
    browser.execute_script("arguments[0].focus()", picture)
    press(browser, Keys.ARROW_DOWN)
    assert "champion" in told(browser)
    press(browser, Keys.ARROW_RIGHT)
    assert "last scene 1" in told(browser)


CONTRASTS = """
const shade = (colour) => {
  const [red, green, blue] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = shade(getComputedStyle(document.body).backgroundColor);
const contrast = (colour) => {
  const [low, high] = [ground, shade(colour)].sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
};
const least = (selector, property) => Math.min(...[...document.querySelectorAll(selector)].map(
  (one) => contrast(getComputedStyle(one)[property])));
const lines = least(".mark > .reach + path", "stroke"), areas = least(".mark > :only-child", "fill");
return [ground, least("svg text", "fill"), lines, areas];
"""
"""Luminance of the ground; the least contrast with it of words, lines, and discs or bars (WCAG 2.2, 1.4.3, 1.4.11)."""


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_figures_are_readable_in_light_and_dark(browser: Chrome, report: Path, scheme: str, dark: bool) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        show(browser, report)
        ground, words, lines, areas = browser.execute_script(CONTRASTS)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (ground < 0.5) == dark
    assert words >= 4.5
    assert lines >= 3.0
    assert areas >= 3.0


def test_a_screen_reader_is_told_each_marks_role_and_values(browser: Chrome, report: Path) -> None:
    show(browser, report)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names: dict[str, set[str]] = {}
    for node in tree:
        if not node["ignored"]:
            names.setdefault(node["role"]["value"], set()).add(node.get("name", {}).get("value", ""))
    for mark in browser.find_elements(By.CSS_SELECTOR, "svg .mark"):
        role = "link" if mark.tag_name == "a" else "image"
        assert label(mark) in names[role]
    titles = [svg.get_attribute("aria-label") for svg in browser.find_elements(By.TAG_NAME, "svg")]
    assert set(titles) <= names["group"]
    assert any(name.startswith("X-axis titled 'fidelity'") for group in names.values() for name in group)


def test_a_heading_sorts_its_column(browser: Chrome, report: Path) -> None:
    show(browser, report)
    heads = browser.find_elements(By.CSS_SELECTOR, "#trial-table th button")
    objective = next(head for head in heads if head.text == "objective")

    def column() -> list[float]:
        cells = browser.find_elements(By.CSS_SELECTOR, "#trial-table tbody td:nth-child(4)")
        return [float(cell.text) for cell in cells]

    objective.send_keys(Keys.ENTER)
    ascending = column()
    assert ascending == sorted(ascending)
    objective.send_keys(Keys.ENTER)
    assert column() == ascending[::-1]


def test_on_a_phone(browser: Chrome, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    show(browser, report)
    for details in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    assert browser.execute_script("return innerWidth") == 360
    picture = browser.find_element(By.CSS_SELECTOR, "#pictures .champion [aria-label]")
    picture.click()
    assert told(browser) == label(picture)
    tip = browser.execute_script("return document.getElementById('tip').getBoundingClientRect().toJSON()")
    assert tip["left"] >= 0
    assert tip["right"] <= 360


@pytest.mark.parametrize(
    ("trials", "rates", "status"),
    [(1, [1e-3], "champion"), (2, [9.9e-3, 9.9e-3], "no usable candidate"), (0, [], "no usable candidate")],
)
def test_every_outcome_has_its_page(
    browser: Chrome, tmp_path: Path, trials: int, rates: list[float], status: str
) -> None:
    result, config, photos = write_synthetic_run(tmp_path, trials=max(trials, 1), rates=rates or [1e-3])
    if not trials:
        shutil.rmtree(result.folder / "trials")
        (result.folder / "images.parquet").unlink()
        nothing: Mapping[str, Any] = {"trials": [], "champion": None, "finalists": [], "front": [], "strengths": None}
        result = changed(result, status="no usable candidate <b>", base={"search": {}, "final": {}}, **nothing)
        photos = ()
    show(browser, write_page(result, config, photos))
    text = browser.find_element(By.TAG_NAME, "main").text
    if status == "champion":
        assert "The champion is trial 000 at step" in text
        assert "There are too few trials to say" in text
    else:
        assert f"There is no champion: {status}" in text
    if not trials:
        assert "no usable candidate <b>." in text
        assert "None was started." in text
        assert browser.find_elements(By.TAG_NAME, "svg") == []
    assert complaints(browser) == []


def test_what_is_gone_from_the_folder_costs_only_itself(browser: Chrome, tmp_path: Path) -> None:
    result, config, photos = write_synthetic_run(tmp_path, trials=2, rates=[1e-3, 8e-4])
    shutil.rmtree(result.folder / "trials" / "001")
    photos[0].path.unlink()
    show(browser, write_page(result, config, photos))
    notices = {element.text for element in browser.find_elements(By.CSS_SELECTOR, ".notice")}
    step = result.outcome.trials[1].best_step
    assert f"trials/001/step-{step}/grid.png cannot be read (FileNotFoundError)." in notices
    assert any(notice.startswith("the real photos cannot be read (") for notice in notices)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#curves svg")) == 4


def test_screenshots_of_the_documentation(browser: Chrome, report: Path, tmp_path: Path) -> None:
    """`docs/report.png` and `docs/report-phone.png`."""
    run = os.environ.get("LIKENESS_SCREENSHOTS")
    folder = DOCS if run else tmp_path
    show(browser, Path(run).resolve() / "report.html" if run else report)
    wait = WebDriverWait(browser, CEILING, poll_frequency=0.02)
    for name, metrics in (
        ("report.png", {"width": 1000, "height": 1400, "deviceScaleFactor": 1, "mobile": False}),
        ("report-phone.png", PHONE),
    ):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wait.until(lambda window: window.execute_script("return document.readyState") == "complete")
        write_file(folder / name, lambda path: path.write_bytes(browser.get_screenshot_as_png()))
        assert (folder / name).stat().st_size > 10_000
