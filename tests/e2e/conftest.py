"""One released smoke line and one Prefect server, shared by the end-to-end tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_support import EKIBEN, ROOT, Homes, ReleasedHomes, Watch, line_environment
from prefect_support import PrefectServer, prefect_server

from configs.loading import load_config
from configs.training import MINILM
from tasks.sources import fetch


@pytest.fixture(scope="session")
def sources() -> Path:
    """Return the cache of sources that is kept from one test run to the next."""
    cache = Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben") / "sources"
    cache.mkdir(parents=True, exist_ok=True)
    for uri in (load_config(ROOT / "configs/smoke.yaml").data.uri, MINILM):
        fetch(uri)
    return cache


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[PrefectServer]:
    """Start a Prefect server for the runs after the first, which start one each otherwise."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(Homes.under(folder, sources), folder / "server.log") as running:
        yield running


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
