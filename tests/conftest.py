"""What every test may rely on: homes of its own, and telemetry off."""

from pathlib import Path

import pytest

from tasks.quiet import switch_off_telemetry

switch_off_telemetry()
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point Ekiben, BentoML and Prefect at folders of this test's own; return their parent."""
    for name in ("EKIBEN_HOME", "BENTOML_HOME", "PREFECT_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return tmp_path
