"""Energy and CO2 of a piece of work, as codecarbon estimates them without asking anyone."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.training import Tracking
from tasks.steps import write_json

log = logging.getLogger("ekiben")


@contextmanager
def measured(tracking: Tracking, file: Path) -> Iterator[dict[str, float]]:
    """Estimate what this process and its children take within the block, if `tracking.energy`.

    What is yielded is filled at the end of the block: `energy_kwh`, `co2_kg`. `file` keeps the sums
    of a block that was interrupted, for the next to go on from.

    Raises:
        ConfigError: if codecarbon has no figures for the electricity of the country.
    """
    used: dict[str, float] = {}
    if not tracking.energy:
        yield used
        return
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    _require_country(tracking.country_iso_code)
    meter = OfflineEmissionsTracker(
        country_iso_code=tracking.country_iso_code,
        tracking_mode="process",
        output_methods=[],  # neither a file nor a server
        log_level="critical",
        allow_multiple_runs=True,  # else it locks the machine and takes over Ctrl-C
    )
    meter.start()
    try:
        yield used
    finally:
        meter.stop()
        found = getattr(meter, "final_emissions_data", None)
        if found is None:
            log.warning("tracking.energy: codecarbon measured nothing on this machine")
        else:
            sums = {"energy_kwh": found.energy_consumed, "co2_kg": found.emissions}
            before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            used.update({name: value + before.get(name, 0.0) for name, value in sums.items()})
            write_json(file, used)


def _require_country(code: str | None) -> None:
    from codecarbon.input import DataSource

    source: Any = DataSource  # its methods carry no types
    known = source().get_global_energy_mix_data()
    if code not in known:
        raise ConfigError(
            f"tracking.country_iso_code: codecarbon has no figures for {code}; use one of the "
            f"{len(known)} codes of ISO 3166 that it knows, such as DEU"
        )
