"""Stand-in until the exporter is merged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from configs.errors import FormError


def export_form(
    model_folder: Path,
    form: Literal["fp32", "int8"],
    calibration_texts: Sequence[str],
    output: Path,
    max_length: int,
) -> None:
    """Export."""
    raise FormError("no exporter")
