"""Which file brings which kind of adapter of which family to diffusers' pipelines: the table in docs/training.md."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.tiny_models import write_flux, write_stable_diffusion_3, write_stable_diffusion_xl
from tests.trainer.conftest import DEMO_BASE, MakeConfig
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import (
    BASE_TEXT,
    TRIGGER_TEXT,
    load_adapter,
    read_adapter_file,
    save_adapter,
)
from trainer.adapters.kohya import export_kohya
from trainer.config import AdapterMethod
from trainer.job.loss import NoiseSchedule
from trainer.models.base_model import Framing
from trainer.models.flow_model import FlowModel
from trainer.models.loading import BaseModel, load_base_model, set_threads

from .test_adapter import randomise
from .test_methods import DEVIATIONS

FAMILIES: Mapping[str, Callable[[Path], Path]] = {
    "SD 1.x": lambda _: DEMO_BASE,
    "SDXL": write_stable_diffusion_xl,
    "SD 3": write_stable_diffusion_3,
    "Flux": write_flux,
}
METHODS = get_args(AdapterMethod)
YES, NO, NONE = "yes", "no", "-"
"""Read to the same output; refused by diffusers; not written, or refused before it is trained."""
READ = {
    "lora": {"SD 1.x": (YES, YES), "SDXL": (YES, YES), "SD 3": (YES, YES), "Flux": (YES, YES)},
    "rslora": {"SD 1.x": (YES, YES), "SDXL": (YES, YES), "SD 3": (YES, YES), "Flux": (YES, YES)},
    "dora": {"SD 1.x": (YES, NONE), "SDXL": (YES, NONE), "SD 3": (NONE, NONE), "Flux": (NONE, NONE)},
    "lokr": {"SD 1.x": (NO, NO), "SDXL": (NO, NO), "SD 3": (NONE, NONE), "Flux": (NONE, NONE)},
    "loha": {"SD 1.x": (NO, NO), "SDXL": (NO, NO), "SD 3": (NONE, NONE), "Flux": (NONE, NONE)},
}
"""By method and family: what `load_lora_weights` makes of the file for diffusers and of that for other programs."""
TRAINED = [(family, method) for method, families in READ.items() for family in families if families[family][0] != NONE]


@dataclass(frozen=True)
class Written:
    """A saved adapter with an effect, in both files."""

    base: BaseModel
    folder: Path
    exported: Path | None
    """None where there is no such file."""
    before: Tensor
    adapted: Tensor


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BaseModel]:
    """Each family's model, loaded once."""
    set_threads(1)
    models: dict[str, BaseModel] = {}

    def make(family: str) -> BaseModel:
        if family not in models:
            folder = FAMILIES[family](tmp_path_factory.mktemp("models") / "model")
            models[family] = load_base_model(folder, device="cpu")
        return models[family]

    return make


@torch.no_grad()
def answer(base: BaseModel) -> Tensor:
    """What encoders and denoiser make of fixed captions and noise."""
    generator = torch.Generator().manual_seed(7)
    channels = base.vae.config["latent_channels"]
    noisy = torch.randn(2, channels, 8, 8, generator=generator)
    framing = Framing(original_size=(64, 64), crop_top_left=(0, 0), target_size=(64, 64))
    conditioning = {
        **base.encode(base.tokenize(["a man with a hat", "a woman"])),
        **base.describe_framing([framing] * 2),
    }
    times = NoiseSchedule.of(base.scheduler, base.device).times[torch.tensor([30, 700])]
    return base.predict(noisy, times, conditioning)


@pytest.fixture
def written(load: Callable[[str], BaseModel], make_config: MakeConfig, tmp_path: Path) -> Callable[[str, str], Written]:
    """Other ranks and alphas in the text encoders, in a block and in a kind of layer."""

    def write(family: str, method: str) -> Written:
        base = load(family)
        flows = isinstance(base, FlowModel)
        config = make_config(
            adapter=method,
            rank=4,
            alpha=10.0,
            targets="attention+feed_forward+convolutions",
            text_encoder_learning_rate=None if flows else 1e-4,
            text_encoder_rank=None if flows else 2,
            text_encoder_alpha=None if flows else 3.0,
            rank_pattern={r"transformer_blocks\.0.*" if flows else r"mid_block.*": 3},
            alpha_pattern={"to_q" if flows else r"attn2\..*": 5.0},
        )
        before = answer(base)
        adapter = attach_adapter(base, config)
        try:
            assert torch.allclose(answer(base), before, rtol=0, atol=1e-5)
            randomise(adapter, deviation=DEVIATIONS.get(method, 0.05))
            for part in adapter.parts:
                for name, weight in adapter.named_parameters(part).items():
                    if "magnitude" in name:
                        weight.data *= 1.1
            adapted = answer(base)
            folder = save_adapter(
                adapter, tmp_path / "adapter", metadata={TRIGGER_TEXT: "sks", BASE_TEXT: "0123"}
            ).parent
        finally:
            adapter.detach()
        assert (adapted - before).abs().max() > 1e-3
        exported = export_kohya(folder, tmp_path / "person.safetensors") if READ[method][family][1] != NONE else None
        return Written(base=base, folder=folder, exported=exported, before=before, adapted=adapted)

    return write


@pytest.mark.parametrize(("family", "method"), TRAINED)
def test_a_pipeline_reads_what_the_table_says_and_refuses_the_rest(
    written: Callable[[str, str], Written], family: str, method: str
) -> None:
    made = written(family, method)
    for file, expected in zip((made.folder, made.exported), READ[method][family], strict=True):
        if file is None:
            continue
        pipeline: Any = made.base.pipeline()
        try:
            if expected == YES:
                pipeline.load_lora_weights(file)
                assert (answer(made.base) - made.adapted).abs().max() < 1e-5
            else:
                with pytest.raises(ValueError, match=r"Invalid LoRA checkpoint|not been correctly renamed"):
                    pipeline.load_lora_weights(file)
        finally:
            pipeline.unload_lora_weights()
        assert torch.equal(answer(made.base), made.before)
    adapter = load_adapter(made.base, made.folder)
    try:
        assert adapter.parts == made.base.parts
        assert (answer(made.base) - made.adapted).abs().max() < 1e-5
    finally:
        adapter.detach()
    assert torch.equal(answer(made.base), made.before)


@pytest.mark.parametrize(("family", "method"), [(f, m) for m in METHODS for f in FAMILIES if (f, m) not in TRAINED])
def test_what_no_file_can_hold_is_refused_before_training(
    load: Callable[[str], BaseModel], make_config: MakeConfig, family: str, method: str
) -> None:
    base = load(family)
    before = answer(base)
    with pytest.raises(ValueError, match=rf"adapter is '{method}', for which no file of .* choose one of 'lora', 'rsl"):
        attach_adapter(base, make_config(adapter=method, text_encoder_learning_rate=0.0))
    assert torch.equal(answer(base), before)


@pytest.mark.parametrize("family", ["SD 3", "Flux"])
def test_the_other_programs_file_of_a_flow_model_needs_no_alpha(
    written: Callable[[str, str], Written], family: str
) -> None:
    """ComfyUI knows these layers by diffusers' names and scales by 1 where there is no alpha: B bears the scale."""
    made = written(family, "lora")
    own, header = read_adapter_file(made.folder / "pytorch_lora_weights.safetensors")
    assert made.exported is not None
    exported = load_file(made.exported)
    assert exported.keys() == own.keys()
    for name, weight in own.items():
        alpha = 5.0 if ".to_q." in name else 10.0
        rank = 3 if ".transformer_blocks.0." in name else 4
        expected = weight * (alpha / rank) if ".lora_B." in name else weight
        torch.testing.assert_close(exported[name], expected, rtol=1e-6, atol=0)
    assert header["likeness_family"] == type(made.base).pipeline_class.__name__
    assert read_adapter_file(made.exported)[1] == {
        "ss_base_model_version": {"SD 3": "sd3", "Flux": "flux1"}[family],
        "ss_base_model_sha256": "0123",
        "modelspec.trigger_phrase": "sks",
    }


def test_the_table_of_methods_is_what_is_tested_here() -> None:
    """A line a method, a column a family: what becomes of the file for diffusers / of the other."""
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text("utf-8")
    assert re.search(r"^\| `adapter` \|.*" + r" \| ".join(re.escape(family) for family in FAMILIES), text, re.MULTILINE)
    rows = {
        row[1]: tuple(cell.strip() for cell in row[2].split("|"))
        for row in re.finditer(r"^\| `(\w+)` \| [^|]+ \| (.+?) \|$", text, re.MULTILINE)
        if row[1] in METHODS
    }
    searched = {"lora": "yes", "rslora": "yes", "dora": "no", "lokr": "no", "loha": "no"}
    cells = {
        method: [NONE if files == (NONE, NONE) else " / ".join(files) for files in families.values()]
        for method, families in READ.items()
    }
    assert rows == {method: (*cells[method], searched[method]) for method in METHODS}
