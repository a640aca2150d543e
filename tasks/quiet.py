"""Switch off the telemetry of every dependency; nothing is sent that a config did not ask for."""

import os

SILENCE = {
    "GX_ANALYTICS_ENABLED": "false",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}


def switch_off_telemetry() -> None:
    """Set the opt-out of each dependency in this process and its children, before their import."""
    os.environ.update(SILENCE)
