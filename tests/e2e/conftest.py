"""One released smoke line, shared by the end-to-end tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_support import EKIBEN, ROOT, Homes, ReleasedHomes, Watch, line_environment


@pytest.fixture(scope="session")
def sources() -> Path:
    """Return the cache of sources that is kept from one test run to the next."""
    cache = Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben") / "sources"
    cache.mkdir(parents=True, exist_ok=True)
    check = [EKIBEN, "check", "configs/smoke.yaml"]
    subprocess.run(check, cwd=ROOT, check=True, capture_output=True)
    fetch = "from configs.schema import MINILM; from tasks.sources import fetch; fetch(MINILM)"
    subprocess.run([sys.executable, "-c", fetch], check=True)
    return cache


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> ReleasedHomes:
    """Run the smoke line once, in homes of its own, to its release, with its connections watched."""
    homes = Homes.under(tmp_path_factory.mktemp("released"), sources)
    watch = Watch.under(tmp_path_factory.mktemp("watch"))
    done = subprocess.run(
        [EKIBEN, "run", "configs/smoke.yaml"],
        cwd=ROOT,
        env=line_environment(homes) | watch.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return ReleasedHomes(homes.ekiben, homes.bentoml, homes.prefect, done.stdout, watch)
