"""MLflow's model registry: the champion as a version of a registered model, under the alias `champion`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.diffusers
from mlflow import MlflowClient

from search.config.search_config import SearchConfig
from trainer.models.loadable import loadable

ALIAS = "champion"


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The winner of a search."""

    config: SearchConfig
    """Of the search; its name is the registered model's."""
    adapter: Path
    """Folder of the adapter's files."""
    trial: str
    """Whose adapter it is."""
    step: int
    """Of its checkpoint."""
    final: Mapping[str, float]
    """Its metrics in the final."""


def register_champion(client: MlflowClient, run_id: str, champion: Champion) -> str:
    """Log the winner with `mlflow.diffusers`, register it and give it the alias.

    One that is registered already, just before the search was killed, is not registered again.

    Args:
        client: Of the MLflow that is written to.
        run_id: MLflow's id of the search's own run, whose status stays as it is.
        champion: The winner.

    Returns:
        `models:/NAME/VERSION`.
    """
    name, tags = champion.config.name, {"trial": champion.trial, "step": str(champion.step)}
    versions = client.search_model_versions(f"run_id = '{run_id}'")
    version = next((known for known in versions if (known.name, known.tags) == (name, tags)), None)
    if version is None:
        model = _log(client, run_id, champion, tags)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(
            name, source=model.model_uri, run_id=run_id, model_id=model.model_id, tags=tags
        )
    number = version.version
    # An old run that is delivered again does not take the alias from a newer one.
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    if holder is None or int(holder) < int(number) or client.get_model_version(name, holder).run_id == run_id:
        client.set_registered_model_alias(name, ALIAS, str(number))
    return f"models:/{name}/{number}"


def _log(client: MlflowClient, run_id: str, champion: Champion, tags: Mapping[str, str]) -> Any:
    metrics = {f"final_{name}": f"{value:.6g}" for name, value in champion.final.items()}
    metadata = {**tags, "trigger": champion.config.photos.trigger, **metrics}
    # start_run says that the run has finished or failed when it is left; that is not for it to say.
    status = client.get_run(run_id).info.status
    try:
        with mlflow.start_run(run_id=run_id):
            return mlflow.diffusers.log_model(
                str(champion.adapter), loadable(champion.config.model), name=ALIAS, metadata=metadata
            )
    finally:
        client.update_run(run_id, status=status)
