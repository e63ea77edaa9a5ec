"""MLflow's model registry: the champion as a version of a registered model, under the alias `champion`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import mlflow.diffusers
from mlflow import MlflowClient

ALIAS = "champion"


def register_champion(client: MlflowClient, run_id: str, folder: Path, values: Mapping[str, Any]) -> str:
    """Log the winner with `mlflow.diffusers`, register it and give it the alias.

    One that is registered already, just before the search was killed, is not registered again.

    Args:
        client: Of the MLflow that the process tells.
        run_id: MLflow's id of the search's own run, whose status stays as it is.
        folder: The run folder.
        values: Of the ledger's entry: `name`, `adapter`, `base_model` and `metadata` with `trial` and `step`.

    Returns:
        `models:/NAME/VERSION`.
    """
    tags = {key: values["metadata"][key] for key in ("trial", "step")}
    name = values["name"]
    known = [
        version
        for version in client.search_model_versions(f"run_id = '{run_id}'")
        if version.name == name and version.tags == tags
    ]
    version = known[0].version if known else _register(client, run_id, folder, tags, values)
    client.set_registered_model_alias(name, ALIAS, str(version))
    return f"models:/{name}/{version}"


def _register(
    client: MlflowClient, run_id: str, folder: Path, tags: Mapping[str, str], values: Mapping[str, Any]
) -> Any:
    # start_run says that the run has finished or failed when it is left; that is not for it to say.
    status = client.get_run(run_id).info.status
    try:
        with mlflow.start_run(run_id=run_id):
            info = mlflow.diffusers.log_model(
                str(folder / values["adapter"]), values["base_model"], name=ALIAS, metadata=values["metadata"]
            )
    finally:
        client.update_run(run_id, status=status)
    if not client.search_registered_models(f"name = '{values['name']}'"):
        client.create_registered_model(values["name"])
    return client.create_model_version(
        values["name"], source=info.model_uri, run_id=run_id, model_id=info.model_id, tags=dict(tags)
    ).version
