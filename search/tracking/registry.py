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
    """The winner, as it is registered."""

    name: str
    """Of the registered model."""
    adapter: Path
    """Folder of the adapter's files."""
    base_model: str
    """What diffusers loads the base model by."""
    metadata: Mapping[str, str]
    """`trial` and `step`, which become tags of the version, and what else is kept with the model."""

    @classmethod
    def of(cls, config: SearchConfig, folder: Path, *, trial: str, step: int, final: Mapping[str, float]) -> Champion:
        """The champion of a search.

        Args:
            config: Of the search.
            folder: The champion's, in the run folder.
            trial: Whose adapter it is.
            step: Of its checkpoint.
            final: Its metrics in the final.
        """
        metrics = {f"final_{name}": f"{value:.6g}" for name, value in final.items()}
        metadata = {"trial": trial, "step": str(step), "trigger": config.photos.trigger, **metrics}
        return cls(name=config.name, adapter=folder, base_model=loadable(config.model), metadata=metadata)


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
    tags = {key: champion.metadata[key] for key in ("trial", "step")}
    known = [
        version
        for version in client.search_model_versions(f"run_id = '{run_id}'")
        if version.name == champion.name and version.tags == tags
    ]
    version = known[0].version if known else _register(client, run_id, champion, tags)
    # An old run that is delivered again does not take the alias from a newer one.
    holder = client.get_registered_model(champion.name).aliases.get(ALIAS)
    if holder is None or int(holder) < int(version) or client.get_model_version(champion.name, holder).run_id == run_id:
        client.set_registered_model_alias(champion.name, ALIAS, str(version))
    return f"models:/{champion.name}/{version}"


def _register(client: MlflowClient, run_id: str, champion: Champion, tags: Mapping[str, str]) -> Any:
    # start_run says that the run has finished or failed when it is left; that is not for it to say.
    status = client.get_run(run_id).info.status
    try:
        with mlflow.start_run(run_id=run_id):
            info = mlflow.diffusers.log_model(
                str(champion.adapter), champion.base_model, name=ALIAS, metadata=dict(champion.metadata)
            )
    finally:
        client.update_run(run_id, status=status)
    if not client.search_registered_models(f"name = '{champion.name}'"):
        client.create_registered_model(champion.name)
    return client.create_model_version(
        champion.name, source=info.model_uri, run_id=run_id, model_id=info.model_id, tags=dict(tags)
    ).version
