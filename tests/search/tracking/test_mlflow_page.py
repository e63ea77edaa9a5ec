"""Comparison in MLflow's own page, in a real browser: select the trials of a search, compare, read the coordinates."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.tracking.tracker import Tracker
from tests.support.command import CEILING
from tests.support.mlflow_server import Server

TRIALS = (
    # learning rate, rank, alpha, steps, objective
    (1e-4, 32, 16, 300, 0.314),
    (2.4e-3, 4, 16, 200, 0.521),
    (1.4e-3, 4, 32, 300, 0.409),
    (6e-3, 16, 32, 200, 0.203),
    (9e-4, 8, 8, 100, 0.377),
)


def deliver(uri: str, folder: Path) -> Tracker:
    """A search of five trials, each with a checkpoint every 100 steps."""
    folder.mkdir(parents=True)
    (folder / "search.yaml").write_text("name: anna\n")
    records = []
    for number, (learning_rate, rank, alpha, steps, objective) in enumerate(TRIALS):
        trial = f"{number:03d}"
        params = {"learning_rate": learning_rate, "rank": rank, "alpha": alpha, "steps": steps}
        record = TrialRecord(id=trial, params=params, steps=steps, state=JobState.FINISHED)
        for step in range(100, steps + 1, 100):
            place = folder / "trials" / trial / f"step-{step}"
            place.mkdir(parents=True)
            Image.new("RGB", (64, 64), (step // 2, 40 * number, 90)).save(place / "grid.png")
            (place / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
            value = objective * step / steps
            metrics = {"objective": value, "search_value": value}
            checkpoint = CheckpointResult(step=step, metrics=metrics, rows=(), folder=place)
            checkpoint.write(place)
            record.add(checkpoint)
        records.append(record)
    with Tracker(uri, "comparison", folder.parent, patience=CEILING) as tracker:
        tracker.start(folder, {"model": "base"}, records)
        tracker.finish(records)
    assert tracker.pending == 0, tracker.failure
    return tracker


def test_trials_are_compared_in_parallel_coordinates(
    mlflow_server: Server, browser: Chrome, screenshot: Callable[[Chrome, str], Path], tmp_path: Path
) -> None:
    mlflow_server.start()
    tracker = deliver(mlflow_server.uri, tmp_path / "runs" / "anna")
    browser.set_window_size(1600, 1000)
    page = WebDriverWait(browser, CEILING)

    browser.get(f"{mlflow_server.uri}/#/experiments/{tracker.experiment_id}/runs")
    unfold = "[data-component-id$='runnamecellrenderer.tsx_46']"
    page.until(lambda window: window.find_element(By.CSS_SELECTOR, unfold)).click()
    named = ".ag-pinned-left-cols-container .ag-row, .ag-center-cols-container .ag-row"

    def rows(window: Chrome) -> list[str]:
        texts = [row.text for row in window.find_elements(By.CSS_SELECTOR, named)]
        return [text for text in texts if "trial-" in text]

    page.until(lambda window: len(rows(window)) == len(TRIALS))
    for box in browser.find_elements(By.CSS_SELECTOR, ".ag-row .ag-selection-checkbox")[1:]:
        box.click()  # all but the first row, the search itself
    page.until(lambda window: window.find_element(By.CSS_SELECTOR, "[data-testid='runs-compare-button']")).click()

    axes = "g.axis-title, g.y-axis text.axis-title, .axis-title"

    def titles(window: Chrome) -> set[str]:
        return {title.text for title in window.find_elements(By.CSS_SELECTOR, axes)}

    page.until(lambda window: {"learning_rate", "rank", "alpha"} <= titles(window))
    assert "Comparing 5 Runs from 1 Experiment" in browser.find_element(By.TAG_NAME, "body").text
    parameters = browser.find_elements(By.CSS_SELECTOR, "input[role='combobox']")[0]
    parameters.send_keys("steps")
    parameters.send_keys(Keys.ENTER)
    page.until(lambda window: {"learning_rate", "rank", "alpha", "steps"} <= titles(window))
    assert any("objective" in title for title in titles(browser))
    screenshot(browser, "mlflow-compare")
