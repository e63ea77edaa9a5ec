"""The run folder of a whole search: its files, the report's page and the card of the champion."""

import re

from safetensors import safe_open

from tests.support.short_search import SearchRun


def test_the_run_folder_holds_what_is_promised(run: SearchRun) -> None:
    assert {path.name for path in run.folder.iterdir()} >= {
        "search.yaml",
        "journal.log",
        "result.json",
        "report.html",
        "images.parquet",
        "champion",
        "plots",
        "trials",
    }
    assert {path.name for path in (run.folder / "champion").iterdir()} == {
        "pytorch_lora_weights.safetensors",
        "anna.safetensors",
        "samples.png",
        "README.md",
    }
    assert not list(run.folder.rglob("*.bin")), "safetensors only"
    for trial in run.result["trials"]:
        steps = {f"step-{checkpoint['step']}" for checkpoint in trial["checkpoints"]}
        folder = run.folder / "trials" / trial["id"]
        assert {path.name for path in folder.iterdir()} == steps, "nothing half-written, nothing to go on from"
        for step in steps:
            assert {path.name for path in (folder / step).iterdir()} == {
                "pytorch_lora_weights.safetensors",
                "report.json",
                "grid.png",
                "others.png",
            }


def test_the_report_is_one_page_with_its_pictures(run: SearchRun) -> None:
    page = (run.folder / "report.html").read_text("utf-8")
    finalists = {one["trial"] for one in run.result["finalists"]}
    checkpoints = sum(1 + len(trial["checkpoints"]) for trial in run.result["trials"] if trial["id"] in finalists)
    scored = [trial for trial in run.result["trials"] if trial["checkpoints"]]
    # Real photos; untuned model and champion; five strengths and none; the finalists' grids; every trial's best.
    assert page.count("data:image/webp;base64,") == 1 + 2 + 6 + checkpoints + 1 + len(scored)
    assert re.findall("https?:", page) == [], "it needs no network"
    for trial in run.result["trials"]:
        assert f"<td>{trial['id']}<td>{trial['state']}" in page


def test_the_card_tells_how_to_use_and_make_it_again(run: SearchRun) -> None:
    card = (run.folder / "champion" / "README.md").read_text("utf-8")
    for words in ("load_lora_weights", "sks", "SHA-256", "Consent", f"Trial {run.result['champion']['trial']}"):
        assert words in card
    with safe_open(run.folder / "champion" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == str(run.result["champion"]["step"])
