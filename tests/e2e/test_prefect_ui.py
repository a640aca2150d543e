"""Prefect's own server, UI, schedules and work pools run our pipelines."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from e2e_support import ROOT, Homes, ReleasedHomes
from playwright.sync_api import Page, expect, sync_playwright
from prefect_support import PREFECT, PrefectServer, deploying, until
from pydantic import BaseModel

from configs.errors import ConfigError
from configs.schema import PipelineConfig
from flows.deployments import describe

SMOKE = "configs/smoke.yaml"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
HOURLY = {"interval": 3600, "anchor_date": "2020-01-01T00:00:00+00:00", "timezone": "UTC"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, released: ReleasedHomes, prefect: PrefectServer
) -> PrefectServer:
    """Return the Prefect server, for homes in which every step of the smoke line is done."""
    homes = Homes.under(tmp_path_factory.mktemp("served"), released.sources)
    shutil.copytree(released.ekiben / "steps", homes.ekiben / "steps", copy_function=os.link)
    return replace(prefect, homes=homes)


@pytest.mark.skipif(
    CHROMIUM is None,
    reason="not run without Chromium: the run form and the artifacts in Prefect's UI; get it with "
    "`apt-get install chromium`",
)
def test_a_run_started_from_the_form_in_the_ui_shows_its_artifacts_there(
    server: PrefectServer, tmp_path: Path
) -> None:
    asked: set[str] = set()
    with (
        deploying(server, tmp_path / "deploy.log", SMOKE),
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.add(request.url))
        # Where `ekiben deploy` says that a run can be started.
        page.goto((tmp_path / "deploy.log").read_text().split()[-1])
        page.get_by_role("link", name="smoke", exact=True).click()
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run").click()
        _check_form(page)
        page.get_by_text("Smallest accuracy that passes.").locator(
            "xpath=following::input[1]"
        ).fill("0.85")
        page.screenshot(path=tmp_path / "form.png")
        run = _submit(page)
        page.goto(f"{server.ui}/runs/flow-run/{run}")
        expect(page.get_by_text("Released").first).to_be_visible(timeout=300_000)
        page.screenshot(path=tmp_path / "run.png")
        assert server.get(f"/flow_runs/{run}")["parameters"]["config"]["gate"]["accuracy"] == {
            "min": 0.85
        }
        _check_artifacts(page, tmp_path)
        told = {key: str(made) for key, made in server.artifacts(run).items()}
        assert "expect_column_values_to_be_in_set" in told["smoke-validation"]
        assert "near-copies in" in told["smoke-duplicates"]
        assert "probably mislabelled" in told["smoke-label-errors"]
    outside = {
        url for url in asked if not url.startswith((server.ui, f"blob:{server.ui}", "data:"))
    }
    assert outside == set()


def _submit(page: Page) -> str:
    """Return the id of the run; press again where the server answers that it is too busy."""
    for _ in range(5):
        with page.expect_response(lambda response: "create_flow_run" in response.url) as created:
            page.get_by_role("button", name="Submit").click()
        if created.value.status != 503:
            break
    assert created.value.ok, created.value.text()
    return str(created.value.json()["id"])


def _check_form(page: Page) -> None:
    """Every field that has a widget stands there with its description from the schema."""
    expect(page.get_by_text("Smallest accuracy that passes.")).to_be_visible()
    shown = page.inner_text("body")
    described = list(_descriptions(PipelineConfig))
    assert len(described) > 60
    for label, description in described:
        plain = description.replace("`", "")  # the UI reads it as Markdown
        assert f"{plain}\n" in shown, label
        assert label in shown


def _descriptions(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield (label, description) of each field of the section and of the sections in it."""
    for name, field in section.model_fields.items():
        assert field.description is not None
        yield name.replace("_", " ").title(), field.description
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _descriptions(kind)


def _check_artifacts(page: Page, screenshots: Path) -> None:
    """All artifacts of the run are listed; those to look at hold what they should."""
    run = page.url
    page.get_by_text("Artifacts", exact=True).click()
    for key in ("validation", "duplicates", "label-errors"):
        expect(page.get_by_text(f"smoke-{key}", exact=True).last).to_be_visible()

    def opened(key: str) -> str:
        page.goto(run)
        page.get_by_text("Artifacts", exact=True).click()
        page.get_by_text(f"smoke-{key}", exact=True).last.click()
        expect(page.get_by_text("Show raw data")).to_be_visible()
        page.screenshot(path=screenshots / f"{key}.png", full_page=True)
        return page.inner_text("body")

    assert "Rows left after each step" in opened("data")
    assert "134 test rows" in opened("evaluation")
    cells = page.get_by_role("cell").all_inner_texts()
    assert {"accuracy", "precision.macro", "recall.spam", "134"} <= set(cells)
    assert "reaches 0.85" in opened("decision")
    images = page.locator("article img, .markdown-renderer img")
    assert images.evaluate_all("all => all.map(one => one.naturalWidth > 100)") == [True] * 6
    report = next(word for word in opened("report").split() if word.startswith("file://"))
    assert "<title>" in Path(report.removeprefix("file://")).read_text(encoding="utf-8")


def test_a_schedule_fires_by_itself_and_stays_active_when_deploy_is_interrupted(
    server: PrefectServer, tmp_path: Path
) -> None:
    config = tmp_path / "often.yaml"
    smoke = (ROOT / SMOKE).read_text(encoding="utf-8")
    config.write_text(f"{smoke}\nschedule: {{interval_seconds: 20}}\n", encoding="utf-8")

    def fired() -> bool:
        released = {"state": {"name": {"any_": ["Released"]}}}
        return any(
            run["auto_scheduled"] for run in server.post("/flow_runs/filter", flow_runs=released)
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        log = tmp_path / f"{number.name}.log"
        with deploying(server, log, config) as process:
            assert "smoke  every 0:00:20" in log.read_text()
            if number is signal.SIGINT:
                until(fired, "a run that the schedule started is released", 180)
            _check_schedule_is_active(server)
            _interrupt(process, number, log)
        _check_schedule_is_active(server)


def _check_schedule_is_active(server: PrefectServer) -> None:
    deployment = server.deployment("smoke")
    assert not deployment["paused"]
    assert [(each["active"], each["schedule"]["interval"]) for each in deployment["schedules"]] == [
        (True, 20.0)
    ]


def _interrupt(process: "subprocess.Popen[Any]", number: signal.Signals, log: Path) -> None:
    process.send_signal(number)
    assert process.wait(120) == 0
    printed = log.read_text()
    assert "Traceback" not in printed
    assert "Warning" not in printed


def test_bad_data_fails_a_run_in_words_without_a_traceback(
    server: PrefectServer, tmp_path: Path
) -> None:
    absent = str(tmp_path / "absent.csv")
    with deploying(server, tmp_path / "deploy.log", SMOKE):
        assert server.deployment("smoke")["schedules"] == []
        cases = {
            server.start_run("smoke", data={"uri": absent}): f"{absent}: does not exist",
            server.start_run("smoke", gate={"accuracy": {"min": None}}): "no limit is set",
        }
        for run, problem in cases.items():
            state = server.ended(run)
            assert state["type"] == "FAILED"
            assert problem in state["message"]
            logged = until(partial(_log_with, server, run, problem), f"the log tells: {problem}")
            assert "Traceback" not in logged
        assert "Traceback" not in (tmp_path / "deploy.log").read_text()


def _log_with(server: PrefectServer, run: str, problem: str) -> str:
    logged = "\n".join(server.messages(run))
    return logged if problem in logged else ""


def test_a_run_that_is_cancelled_or_cut_off_while_it_trains_leaves_no_worker(
    server: PrefectServer, tmp_path: Path
) -> None:
    log = tmp_path / "deploy.log"
    with deploying(server, log, SMOKE) as process:
        for seed, end in ((7, "the API"), (8, "SIGTERM")):
            run = server.start_run("smoke", training={"seed": seed})
            until(partial(_trains, server, run), "a worker trains")
            if end == "the API":
                server.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
            else:
                _interrupt(process, signal.SIGTERM, log)
            assert server.ended(run, 60)["type"] == "CANCELLED"
            until(lambda: not server.workers(), "no worker is left", 30)


def _trains(server: PrefectServer, run: str) -> bool:
    return bool(server.workers()) and "smoke-finetune" in server.artifacts(run)


def test_prefect_yaml_gives_the_same_deployments_to_the_worker_of_a_pool(
    server: PrefectServer, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "configs", clone / "configs")
    configs = sorted((clone / "configs").glob("*.yaml"))
    with (clone / "configs/smoke.yaml").open("a", encoding="utf-8") as smoke:
        smoke.write("\nschedule: {interval_seconds: 3600}\n")
    with deploying(server, tmp_path / "deploy.log", *configs):
        served = {file.stem: _described(server, file.stem) for file in configs}
    assert served["smoke"]["schedules"][0]["interval"] == 3600.0

    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert text.count("&smoke []") == 1
    (clone / "prefect.yaml").write_text(text.replace("&smoke []", f"&smoke [{HOURLY}]"))
    _prefect(server, clone, "work-pool", "create", "ekiben", "--type", "process")
    _prefect(server, clone, "deploy", "--all")
    assert {file.stem: _described(server, file.stem) for file in configs} == served
    assert server.deployment("smoke")["work_pool_name"] == "ekiben"

    run = server.start_run("smoke")
    _prefect(server, tmp_path, "worker", "start", "--pool", "ekiben", "--run-once")
    assert server.ended(run)["name"] == "Released"


def _described(server: PrefectServer, name: str) -> dict[str, Any]:
    deployment = server.deployment(name)
    wanted = ("parameters", "parameter_openapi_schema", "description", "entrypoint", "paused")
    return {key: deployment[key] for key in wanted} | {
        "schedules": [each["schedule"] for each in deployment["schedules"]]
    }


def _prefect(server: PrefectServer, folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [PREFECT, "--no-prompt", *arguments],
        cwd=folder,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_schedule_that_prefect_yaml_does_not_repeat_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"that file asks for \[\]; write the latter"):
        describe(str(ROOT / SMOKE), [HOURLY])
