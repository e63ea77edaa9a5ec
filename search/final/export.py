"""The champion's folder: its weights as its users' programs read them, a picture of what it draws, and its card."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import jinja2

from evaluation.grid import image_grid
from evaluation.measures import printed
from search.config.run_layout import CONFIGURATION_FILE, RunLayout
from search.config.search_config import SearchConfig
from search.final.final import Final
from search.workers.setup import RunnerSetup
from trainer.files import write_file, written_folder
from trainer.models.loadable import loadable

SAMPLE_COLUMNS = 12
"""Images a row in `samples.png`, at most."""


def write_champion(
    config: SearchConfig, final: Final, layout: RunLayout, setup: RunnerSetup, *, second_judge: str
) -> None:
    """Write the champion's folder.

    Args:
        config: The search, as resolved.
        final: Its outcome.
        layout: Of the run folder.
        setup: Photos and prompts.
        second_judge: What the second judge says, in a line; empty without one.
    """
    with written_folder(layout.champion) as temporary:
        export_champion(final, temporary, config.name)
        write_samples(final, temporary / "samples.png")
    write_card(
        config,
        final,
        layout.champion,
        photos=(len(setup.split.training), len(setup.split.reference)),
        prompt=setup.prompt_sets["final"].prompts[0].replace("{trigger}", config.photos.trigger),
        second_judge=second_judge,
    )


def export_champion(final: Final, folder: Path, name: str) -> Path:
    """Write the champion's weights: for diffusers under its own name, for ComfyUI and A1111 as `NAME.safetensors`.

    Returns:
        The diffusers file.
    """
    from trainer.adapters.adapter_files import WEIGHTS_FILE  # torch: only now
    from trainer.adapters.kohya import export_kohya

    source = final.champion.shipped.folder
    target = folder / WEIGHTS_FILE
    shutil.copyfile(source / WEIGHTS_FILE, target)
    export_kohya(folder, folder / f"{name}.safetensors")
    return target


def write_samples(final: Final, path: Path) -> Path:
    """Write a PNG of two rows: the untuned model above, the champion below, on the first seed of each final prompt."""
    rows = [
        report.images()[:: report.columns][:SAMPLE_COLUMNS] for report in (final.base, final.champion.shipped.report)
    ]
    sheet = image_grid([image for row in rows for image in row], columns=len(rows[0]))
    write_file(path, lambda temporary: sheet.save(temporary, "PNG"))
    return path


def write_card(
    config: SearchConfig, final: Final, folder: Path, *, photos: tuple[int, int], prompt: str, second_judge: str
) -> Path:
    """Write `README.md` beside the champion's weights: what a stranger needs to use, judge and make it again.

    Args:
        config: The search, as resolved.
        final: Its outcome.
        folder: Holds the weights already.
        photos: Numbers of training and of reference photos.
        prompt: An example, the trigger filled in.
        second_judge: What the second judge says, in a line; empty without one.
    """
    record = final.champion.record
    seed = final.champion.shipped.seed
    training = config.training_config(record.params, seed=config.trial_seed(record.number) if seed is None else seed)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.final"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
    )
    template = environment.get_template("adapter_card.md.j2")
    text = template.render(
        config=config,
        final=final,
        folder=folder,
        configuration=CONFIGURATION_FILE,
        printed=printed(final.champion.shipped.report.metrics),
        photos=photos,
        training=training,
        settings=vars(training),
        loadable=loadable(config.model),
        prompt=json.dumps(prompt, ensure_ascii=False),  # one string literal, whatever it holds
        second_judge=f"{second_judge[:1].upper()}{second_judge[1:]}." if second_judge else "",
        files={
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))
        },
    )
    path = folder / "README.md"
    write_file(path, lambda temporary: temporary.write_text(text, "utf-8"))
    return path
