"""The page in a real browser: what a voter sees, and what becomes of clicks and keys."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from search.voting.page import VotingSession, create_app, listening
from search.voting.votes import read_votes
from tests.support.command import CEILING

PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture
def address(session: VotingSession) -> Iterator[str]:
    """Of a page that is being served."""
    with listening(create_app(session, "a-token"), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}/a-token/"
        finally:
            server.shutdown()
            thread.join()


def answers(run_folder: Path) -> list[str]:
    return [str(vote.answer) for vote in read_votes(run_folder / "votes.jsonl").votes]


def turn(browser: Chrome, act: Callable[[], object]) -> None:
    """Do something that leads to the next pair, and wait until that is on the screen."""

    def showing(window: Chrome) -> str | None:
        return window.find_element(By.NAME, "showing").get_attribute("value")

    before = showing(browser)
    act()
    wait = WebDriverWait(browser, CEILING, poll_frequency=0.02, ignored_exceptions=[StaleElementReferenceException])
    wait.until(lambda window: showing(window) != before)
    loaded(browser)


def loaded(browser: Chrome) -> None:
    WebDriverWait(browser, CEILING, poll_frequency=0.02).until(
        lambda window: window.execute_script("return document.readyState") == "complete"
    )


def press(browser: Chrome, key: str) -> None:
    ActionChains(browser).send_keys(key).perform()


def complaints(browser: Chrome) -> list[dict[str, Any]]:
    """What the browser's console says."""
    messages: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return messages


def test_what_a_voter_sees(browser: Chrome, address: str, session: VotingSession) -> None:
    browser.get(address)
    loaded(browser)
    assert browser.find_element(By.ID, "prompt").text == session.showing().prompt
    images = browser.find_elements(By.TAG_NAME, "img")
    assert [image.get_attribute("alt") for image in images] == [
        "Real photo 1 of the person",
        "Real photo 2 of the person",
        f"Picture A, drawn for: {session.showing().prompt}",
        f"Picture B, drawn for: {session.showing().prompt}",
    ]
    widths = [browser.execute_script("return arguments[0].naturalWidth", image) for image in images]
    assert widths == [256, 256, 8, 8]
    for image in images[2:]:
        assert image.is_displayed()
        assert image.size["width"] > 300
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(fetched) == 4
    assert all(name.startswith(f"{address}picture/") and "crimson" not in name for name in fetched)
    assert complaints(browser) == [], "the page breaks none of its own rules"


def test_clicks_keys_and_undo(browser: Chrome, address: str, run_folder: Path) -> None:
    browser.get(address)
    loaded(browser)
    assert not browser.find_element(By.ID, "undo").is_enabled()
    for element in ("left", "right", "tie"):
        turn(browser, browser.find_element(By.ID, element).click)
    for key in (Keys.ARROW_LEFT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.SPACE):
        turn(browser, partial(press, browser, key))
    assert answers(run_folder) == ["left", "right", "tie", "left", "right", "tie", "tie"]
    assert browser.find_element(By.CSS_SELECTOR, "[role=status]").text == "7 votes"

    turn(browser, browser.find_element(By.ID, "undo").click)
    turn(browser, partial(press, browser, "u"))
    assert answers(run_folder) == ["left", "right", "tie", "left", "right"]
    assert len((run_folder / "votes.jsonl").read_text().splitlines()) == 9, "nothing was taken out of the file"

    press(browser, "x")
    ActionChains(browser).key_down(Keys.CONTROL).send_keys(Keys.ARROW_LEFT).key_up(Keys.CONTROL).perform()
    turn(browser, partial(press, browser, Keys.ARROW_LEFT))
    assert answers(run_folder) == ["left", "right", "tie", "left", "right", "left"], "other keys are no votes"


def test_two_presses_are_one_vote(browser: Chrome, address: str, run_folder: Path) -> None:
    browser.get(address)
    loaded(browser)
    twice = "const button = document.getElementById('left'); button.click(); button.click();"
    turn(browser, lambda: browser.execute_script(twice))
    assert answers(run_folder) == ["left"]


def test_with_the_keyboard_alone(browser: Chrome, address: str, run_folder: Path) -> None:
    """Tab reaches every control in the order of the page, and shows where it is; space presses what has the focus."""
    browser.get(address)
    loaded(browser)
    reached = []
    for _ in range(4):
        press(browser, Keys.TAB)
        focused = browser.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.text)
        assert focused.value_of_css_property("outline-style") == "solid"
        assert float(focused.value_of_css_property("outline-width").removesuffix("px")) >= 2
    assert reached == ["Report", "left", "right", "tie"]
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    turn(browser, partial(press, browser, Keys.SPACE))
    assert answers(run_folder) == ["right"], "space on B is B"
    for _ in range(3):
        press(browser, Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "left"
    turn(browser, partial(press, browser, Keys.ENTER))
    assert answers(run_folder) == ["right", "left"]


def test_the_report_view(browser: Chrome, address: str, run_folder: Path) -> None:
    browser.get(address)
    loaded(browser)
    for _ in range(2):
        turn(browser, browser.find_element(By.ID, "left").click)
    browser.find_element(By.LINK_TEXT, "Report").click()
    rows = [row.text for row in browser.find_elements(By.CSS_SELECTOR, "#agreement tr")]
    assert rows[0] == "objective with of the two images of the two candidates"
    assert rows[1].startswith("configured weights ")
    assert " % (" in rows[1]
    assert len(browser.find_elements(By.CSS_SELECTOR, "#ranking tr")) in {3, 4}
    assert browser.find_element(By.ID, "verdict").text.startswith("Too few votes")
    browser.find_element(By.LINK_TEXT, "Back to voting").click()
    assert browser.find_element(By.CSS_SELECTOR, "[role=status]").text == "2 votes"
    assert complaints(browser) == []


def test_nothing_leaves_a_phones_screen(browser: Chrome, address: str) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    browser.get(address)
    loaded(browser)
    assert _width(browser) == (390, 390)
    left, right, tie = (browser.find_element(By.ID, name).rect for name in ("left", "right", "tie"))
    assert left["y"] == right["y"], "side by side, to be compared at a glance"
    assert tie["y"] + tie["height"] <= 844, "all answers are on the first screen"
    assert min(left["width"], right["width"]) > 150
    turn(browser, browser.find_element(By.ID, "tie").click)
    browser.get(f"{address}report")
    assert _width(browser) == (390, 390)


def _width(browser: Chrome) -> tuple[int, int]:
    page, window = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    return page, window
