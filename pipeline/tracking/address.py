"""Address of the MLflow store: the environment variable `MLFLOW_TRACKING_URI`, else `tracking.uri` in params.yaml.

MLflow is not imported here, so that `check` prints the address at once.
"""

import os

from pipeline.addresses import encode_password, use_installed_driver
from pipeline.params import Tracking, parse

URI_VARIABLE = "MLFLOW_TRACKING_URI"
IGNORED_VARIABLES = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_ID",
    "MLFLOW_ARTIFACT_LOCATION",
)
"""Environment variables of MLflow that name another place for runs or models, and that this project does not use."""


def find_store_address(settings: Tracking) -> tuple[str, str]:
    """Return the address of the MLflow store, and where it comes from: the variable's name, the file's or `default`.

    A PostgreSQL address gets the driver that is installed, whichever it names.

    Raises:
        UserError: the variable has no address of a store.
    """
    if uri := os.environ.get(URI_VARIABLE):
        settings, source = parse(Tracking, {"uri": uri}, URI_VARIABLE), URI_VARIABLE
    else:
        source = "params.yaml" if "uri" in settings.model_fields_set else "default"
    return use_installed_driver(encode_password(settings.uri)), source


def list_ignored_variables() -> list[str]:
    """Return the names of the `IGNORED_VARIABLES` that are set."""
    return [name for name in IGNORED_VARIABLES if os.environ.get(name)]
