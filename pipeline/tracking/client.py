"""Settings of the clients of MLflow and PostgreSQL, so that a server that is away costs seconds rather than minutes.

They are environment variables, which processes inherit. MLflow is not imported here.
"""

import os

CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a dead server is tried for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # else a busy server decides how long a training waits
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PGCONNECT_TIMEOUT": "4",  # by default PostgreSQL's client waits minutes for a host
}
"""Environment variable -> its value, unless the user has set another."""


def apply_client_settings() -> None:
    """Set the variables of `CLIENT_SETTINGS` that the user has not set. Must be called before MLflow is imported."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
