"""What all tests share: who runs what, Ctrl-C is heeded, and pages are shown in a real browser."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.support.schedule import rank, scheduling

DOCS = Path(__file__).parents[1] / "docs"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of xdist's own `--dist loadfile`; None leaves it to xdist."""
    return scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def _heeded_interrupts() -> None:
    """Tests press Ctrl-C on programs that they start; one started from a shell's background would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def screenshot(tmp_path: Path) -> Callable[[webdriver.Chrome, str], Path]:
    """Takes a picture of the browser's window: into docs/ where LIKENESS_SCREENSHOTS is set, else the test's folder."""

    def take(window: webdriver.Chrome, name: str) -> Path:
        path = (DOCS if os.environ.get("LIKENESS_SCREENSHOTS") else tmp_path) / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        assert window.save_screenshot(str(path))
        return path

    return take


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """Headless Chromium, 1280 x 900 pixels, on an empty page and without cookies."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.get("about:blank")
    return chromium


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """One browser for the tests of a file: it takes longer to start than a test.

    Skipped where there is none, but not in continuous integration: there a page must not go untested.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        reason = "no browser: install the Debian packages chromium and chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = Options()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--window-size=1280,900",
        "--no-sandbox",  # Chromium refuses to run as root otherwise
        "--disable-dev-shm-usage",  # containers have a small /dev/shm
        "--disable-gpu",
        "--disable-background-networking",
    ):
        options.add_argument(argument)
    service = Service(executable_path=driver)
    window = webdriver.Chrome(options=options, service=service)
    try:
        yield window
    finally:
        window.quit()
