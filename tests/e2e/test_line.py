"""The whole line through the command line: released, served, reused, refused, and traced back."""

import ast
import html
import html.parser
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from e2e_support import ROOT, Homes, ReleasedHomes, free_port, line_environment, stopped
from key_pairs import key_pair
from prefect_support import PrefectServer

from configs.errors import BentoError, ConfigError
from configs.loading import load_config
from configs.schema import Gate, PipelineConfig
from flows.pipeline import run_line
from tasks.auditing import find_label_errors
from tasks.baseline import fit_baseline
from tasks.building import build_bento
from tasks.calibrating import calibrate_candidate
from tasks.challenging import challenge_champion
from tasks.deciding import decide_on
from tasks.digests import file_digest, folder_digest, value_digest
from tasks.duplicates import find_duplicates
from tasks.evaluation import evaluate_candidate
from tasks.finetuning import fine_tune
from tasks.fingerprints import fingerprints
from tasks.forms import make_form
from tasks.gate import judge
from tasks.history import append, event
from tasks.ingest import read_dataset
from tasks.integrity import write_manifest
from tasks.leakage import count_leaks
from tasks.manifests import (
    BentoManifest,
    CalibrationManifest,
    CheckpointManifest,
    DatasetManifest,
    DuplicateReport,
    EvaluationReport,
    Evidence,
    Manifest,
    ProofReport,
    ReleaseRecord,
    SplitManifest,
    ValidationReport,
)
from tasks.model_card import Candidate
from tasks.proving import prove_bento
from tasks.records import DecisionRecord
from tasks.releases import require_signed_release, require_whole_release
from tasks.releasing import release_bento, require_signing_key
from tasks.reporting import Run, write_report
from tasks.splitting import split_rows
from tasks.validation import validate_dataset

M = TypeVar("M", bound=Manifest)
CONFIG = ROOT / "configs" / "smoke.yaml"
BENTOML = str(Path(sys.executable).with_name("bentoml"))
STAGES = (
    "ingest",
    "validate",
    "deduplicate",
    "profile",
    "audit",
    "split",
    "baseline",
    "finetune",
    "calibrate",
    "evaluate",
    "leakage",
    "build",
    "prove",
    "release",
)
NOT_FOR_SERVING = {
    "accelerate", "datasets", "ekiben", "evaluate", "great-expectations", "matplotlib", "pandas",
    "prefect", "pyarrow", "scikit-learn", "scipy", "sqlalchemy",
}  # fmt: skip


def listed(homes: Homes) -> list[str]:
    """Return the tags that `bentoml list` shows."""
    shown = subprocess.run(
        [BENTOML, "list", "--output", "json"], env=line_environment(homes), capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    return [entry["tag"] for entry in json.loads(shown)]


def printed_tag(printed: str) -> str:
    found = re.search(r"^bento: (smoke:[0-9a-f]{12})$", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1]


def printed_lines(printed: str) -> list[str]:
    """Return the lines to copy that stand at the end of what a release prints."""
    head, _, rest = printed.partition("Serve it, and classify two texts:\n")
    assert head
    return [line.strip() for line in rest.splitlines() if line.strip()]


def bento_of(homes: ReleasedHomes) -> Path:
    return homes.bentoml / "bentos" / printed_tag(homes.printed).replace(":", "/")


def record_of(homes: ReleasedHomes) -> ReleaseRecord:
    file = homes.ekiben / "releases" / f"{printed_tag(homes.printed).replace(':', '/')}.json"
    return ReleaseRecord.model_validate_json(file.read_text(encoding="utf-8"))


# --- A release ------------------------------------------------------------------------------------


def test_a_run_prints_the_decision_the_report_the_tag_and_two_lines_to_copy(
    released: ReleasedHomes,
) -> None:
    printed = released.printed
    header = next(line for line in printed.splitlines() if line.split()[:1] == ["rule"])
    assert " ".join(header.split()) == "rule value 95% interval n limit baseline verdict"
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["accuracy"]).split()
    low, high = (float(end.strip("[,]")) for end in row[2:4])
    assert low <= float(row[1]) <= high
    assert float(row[1]) >= 0.8
    assert (row[4:7], row[8:]) == (["134", "≥", "0.8"], ["pass"])
    assert 0 < float(row[7]) <= 1
    report = re.search(r"^report: (/.+\.html)$", printed, re.MULTILINE)
    assert report is not None
    assert Path(report[1]).is_file()
    assert re.search(
        r"^Released in \d+ s: accuracy: 0\.\d+ \[.+\] reaches 0\.8; "
        r"leaked test rows: 0 stays within 0; "
        r"served as int8: accuracy over original: .+ reaches -0\.05$",
        printed,
        re.MULTILINE,
    )
    serve, curl = printed_lines(printed)
    assert serve.endswith("bentoml serve smoke:latest")
    assert curl.startswith("curl -s http://127.0.0.1:3000/classify ")


def test_bentoml_lists_exactly_the_released_tag_and_latest_points_to_it(
    released: ReleasedHomes,
) -> None:
    tag = printed_tag(released.printed)
    assert listed(released) == [tag]
    got = subprocess.run(
        [BENTOML, "get", "smoke:latest", "--output", "path"],
        env=line_environment(released), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(got.stdout.strip()) == bento_of(released)
    assert not (released.bentoml / ".ekiben-staging").exists()


def test_the_release_is_on_record_and_its_report_lies_in_the_bento(
    released: ReleasedHomes,
) -> None:
    record = record_of(released)
    assert record.tag == printed_tag(released.printed)
    assert (record.pipeline, record.previous) == ("smoke", None)
    assert record.bento_path == bento_of(released)
    assert record.decision.verdict == "pass"
    assert record.config["gate"]["accuracy"]["min"] == 0.8
    page = (record.bento_path / "report.html").read_bytes()
    assert page == record.report.read_bytes()
    proof = json.loads((record.bento_path / "proof.json").read_text(encoding="utf-8"))
    assert proof["rows_replayed"] == proof["labels_equal"] == 60
    assert proof["largest_difference"] < 1e-4
    assert 0 < proof["latency_p50_ms"] <= proof["latency_p99_ms"]
    assert proof["peak_memory_mb"] > 0


class References(html.parser.HTMLParser):
    """Collects the elements of a page, and all that would be loaded or followed from it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.found: list[str] = re.findall(r"url\(([^)]*)\)|@import", page)
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        names = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        self.found += [value or "" for name, value in attrs if name in names]

    handle_startendtag = handle_starttag

    def outside(self) -> list[str]:
        """Return what is neither in the page itself nor an anchor in it."""
        return [target for target in self.found if not target.startswith(("#", "data:image/"))]


def test_the_report_loads_nothing_from_anywhere(released: ReleasedHomes) -> None:
    page = (bento_of(released) / "report.html").read_text(encoding="utf-8")
    references = References(page)
    assert "svg" in references.elements
    assert "script" not in references.elements
    assert references.found
    assert references.outside() == []


def test_the_bento_asks_for_exact_versions_of_what_serving_needs_and_nothing_else(
    released: ReleasedHomes,
) -> None:
    folder = bento_of(released) / "env" / "python"
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-zA-Z.!]*", line), line
    names = {line.partition("==")[0] for line in lines}
    assert {"bentoml", "openvino", "tokenizers"} <= names
    assert not names & (NOT_FOR_SERVING | {"torch", "transformers", "nncf"})
    for file in folder.rglob("*"):
        assert not re.search(r"index-url|find-links|://", file.read_text(encoding="utf-8")), file


def test_the_service_in_the_bento_imports_nothing_of_the_line(released: ReleasedHomes) -> None:
    source = bento_of(released) / "src"
    files = sorted(source.glob("*.py"))
    assert {"service.py", "engine.py", "cleaning.py"} <= {file.name for file in files}
    imported = {
        name.partition(".")[0]
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in _imported(node)
    }
    assert {"bentoml", "openvino"} <= imported
    assert "torch" not in imported
    assert not imported & {"configs", "tasks", "flows", "prefect", "great_expectations", "datasets"}


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


# --- The two printed lines, and the service behind them -------------------------------------------


@dataclass(frozen=True)
class Served:
    """The released Bento, served by the printed line; `log` is all that it printed."""

    address: str
    curl: str
    log: Path

    def post(self, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return httpx.post(f"{self.address}/classify", content=content, headers=headers, timeout=60)

    def classify(self, *texts: str) -> list[dict[str, Any]]:
        answer = self.post({"texts": texts})
        assert answer.status_code == 200, answer.text
        answers: list[dict[str, Any]] = answer.json()
        return answers


@pytest.fixture(scope="module")
def served(released: ReleasedHomes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the printed line in a shell; on another port only where 3000 is taken."""
    serve, curl = printed_lines(released.printed)
    port = 3000 if _is_free(3000) else free_port()
    log = tmp_path_factory.mktemp("served") / "serve.log"
    environment = line_environment(released) | {
        "BENTOML_HOST": "127.0.0.1",
        "BENTOML_PORT": str(port),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            serve, shell=True, cwd=ROOT, env=environment, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        with stopped(process):
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(address, process, log)
            yield Served(address, curl.replace(":3000/", f":{port}/"), log)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(900):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_the_printed_curl_line_classifies_two_texts(
    released: ReleasedHomes, served: Served
) -> None:
    done = subprocess.run(served.curl, shell=True, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    assert len(answers) == 2
    for answer in answers:
        assert set(answer) == {
            "label", "probabilities", "unsure", "truncated", "model", "forced"
        }  # fmt: skip
        assert answer["forced"] is False
        assert set(answer["probabilities"]) == {"ham", "spam"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0, abs=1e-9)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert answer["unsure"] is False
        assert answer["truncated"] is False
        assert answer["model"] == printed_tag(released.printed)


XYZZY = "xyzzy"
REFUSED: dict[str, tuple[Any, str]] = {
    "no texts": ({"texts": []}, "should have 1 to 64 items, and has none"),
    "too many texts": ({"texts": [XYZZY] * 65}, "should have 1 to 64 items, and has 65"),
    "a text that is too long": ({"texts": ["ok", XYZZY * 4001]}, "at most 20000 characters"),
    "an empty text": ({"texts": [XYZZY, ""]}, "is empty; send a text"),
    "a blank text": ({"texts": [XYZZY, " \t\n "]}, "is blank once cleaned; send a text"),
    "control characters alone": ({"texts": ["\x00\x01"]}, "is blank once cleaned; send a text"),
    "one string": ({"texts": XYZZY}, "should be an array of strings"),
    "a number": ({"texts": [1]}, "should be a string"),
    "null": ({"texts": [None]}, "should be a string"),
    "a list in a list": ({"texts": [[XYZZY]]}, "should be a string"),
    "another key": ({"text": [XYZZY]}, "is missing; send"),
    "no object": ([XYZZY], "should be an object"),
    "half of a JSON": (b'{"texts": ["xyzzy"', "is no JSON in UTF-8: "),
    "no JSON": (b"xyzzy", "is no JSON in UTF-8: "),
    "not UTF-8": (b'{"texts": ["\xff xyzzy"]}', "is no JSON in UTF-8: "),
    "nothing": (b"", "is no JSON in UTF-8: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_answered_is_refused_with_what_to_do(
    served: Served, case: str
) -> None:
    body, words = REFUSED[case]
    answer = served.post(body)
    assert answer.status_code == 422
    assert words in " ".join(item["problem"] for item in answer.json()["details"])
    assert XYZZY not in answer.text


def test_no_text_of_a_request_is_in_the_services_log(served: Served) -> None:
    for body, _ in REFUSED.values():
        served.post(body)
    served.classify(f"{XYZZY} is fine")
    log = served.log.read_text(encoding="utf-8")
    assert '"status":422' in log and '"status":200' in log
    assert XYZZY not in log


def test_as_many_and_as_long_texts_as_allowed_are_answered_and_truncation_is_told(
    served: Served,
) -> None:
    answers = served.classify(*["Are we still on for lunch?"] * 63, "x " * 10_000)
    assert [answer["truncated"] for answer in answers] == [False] * 63 + [True]


def test_what_is_cut_off_does_not_change_the_answer(served: Served) -> None:
    head = "meet me at the station later today please " * 10
    one, other = served.classify(head + "free cash prize", head + "see you then, all of us")
    assert one["truncated"] and other["truncated"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


def test_a_batch_is_answered_as_its_texts_one_by_one(
    released: ReleasedHomes, served: Served
) -> None:
    (test,) = (released.ekiben / "steps/split").glob("*/test.parquet")
    texts = pq.read_table(test)["text"].to_pylist()[:40]
    assert len({len(text) for text in texts}) > 10
    together = served.classify(*texts)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = served.classify(text)
        assert alone["label"] == answer["label"]
        assert alone["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-4)


def test_texts_are_cleaned_as_in_training(served: Served) -> None:
    plain = "Café < 5 & a free prize"
    raw = "  Cafe\u0301 &amp;lt; 5\t&amp; a\x07 free\n\n prize "
    one, other = served.classify(plain, raw)
    assert one == other


def test_the_example_in_the_openapi_page_works_as_it_is(
    released: ReleasedHomes, served: Served
) -> None:
    page = httpx.get(f"{served.address}/docs.json").json()
    operation = page["paths"]["/classify"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    schemas = page["components"]["schemas"]
    assert content["schema"] == {"$ref": "#/components/schemas/Request"}
    assert schemas["Request"]["properties"]["texts"]["maxItems"] == 64
    answers = served.post(content["example"]).json()
    assert len(answers) == 2
    shown = schemas["Classification"]["properties"]
    assert shown.keys() == answers[0].keys()
    assert {answer["model"] for answer in answers} == {shown["model"]["example"]}
    assert shown["model"]["example"] == printed_tag(released.printed)


# --- Again, and with other limits -----------------------------------------------------------------


def test_a_second_run_reuses_every_step_says_so_and_releases_the_same_tag(
    released: ReleasedHomes, prefect: PrefectServer
) -> None:
    steps = released.ekiben / "steps"
    before = {path: path.stat().st_mtime_ns for path in steps.glob("*/*/manifest.json")}
    bento = folder_digest(bento_of(released))
    again = prefect.run(released, str(CONFIG))
    assert again.returncode == 0, again.stdout + again.stderr
    for stage in STAGES:
        assert re.search(rf"^{stage}: reused .+, nothing changed$", again.stdout, re.MULTILINE)
    assert printed_tag(again.stdout) == printed_tag(released.printed)
    assert printed_lines(again.stdout) == printed_lines(released.printed)
    after = {path: path.stat().st_mtime_ns for path in steps.glob("*/*/manifest.json")}
    assert after == before
    assert len(after) == 22
    assert folder_digest(bento_of(released)) == bento
    assert (bento_of(released).parent / "latest").read_text() == bento_of(released).name


@pytest.mark.parametrize(
    ("override", "code", "state", "reason"),
    [
        (
            "gate.accuracy.min=0.9999",
            3,
            "Rejected",
            r"accuracy: 0\.\d+ \[0\.\d+, 0\.\d+\] is below 0\.9999",
        ),
        (
            "gate.min_test_rows=100000",
            4,
            "Undecided",
            r"accuracy: 134 test rows, below gate\.min_test_rows=100000",
        ),
    ],
)
def test_a_model_that_does_not_pass_ends_in_an_outcome_and_builds_nothing(
    released: ReleasedHomes,
    prefect: PrefectServer,
    override: str,
    code: int,
    state: str,
    reason: str,
) -> None:
    built = set((released.ekiben / "steps/build").iterdir())
    store = folder_digest(released.bentoml / "bentos")
    done = prefect.run(released, str(CONFIG), "--set", override)
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(rf"^{state} in \d+ s: {reason}$", done.stdout, re.MULTILINE), done.stdout
    assert "bento:" not in done.stdout and "bentoml serve" not in done.stdout
    report = re.search(r"^report: (/.+\.html)$", done.stdout, re.MULTILINE)
    assert report is not None
    assert state.lower() in Path(report[1]).name
    assert set((released.ekiben / "steps/build").iterdir()) == built
    assert folder_digest(released.bentoml / "bentos") == store
    assert listed(released) == [printed_tag(released.printed)]


# --- A Bento that is not what was evaluated -------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """What the stages have made of the smoke line, in a home where nothing is proven yet."""

    config: PipelineConfig
    split: SplitManifest
    evaluation: EvaluationReport
    decided: DecisionRecord
    candidate: Candidate
    bento: BentoManifest

    def prove(self) -> ProofReport:
        return prove_bento(self.config, self.split, self.evaluation, self.bento)


@pytest.fixture
def made(homes: Path, released: ReleasedHomes) -> Made:
    """Copy the released line's steps up to the Bento into a home of the test's own."""
    home = homes / "ekiben_home"
    shutil.copytree(
        released.ekiben / "steps", home / "steps", ignore=shutil.ignore_patterns("prove")
    )
    (home / "sources").symlink_to(released.sources)
    config = load_config(CONFIG)
    dataset = read_dataset(config.data)
    duplicates = find_duplicates(config, dataset, validate_dataset(config, dataset))
    suspects = find_label_errors(config, dataset, duplicates)
    split = split_rows(config, dataset, duplicates, suspects)
    checkpoint = fine_tune(config, split)
    calibration = calibrate_candidate(config, split, checkpoint)
    baseline = fit_baseline(config, split)
    original = evaluate_candidate(config, split, checkpoint, calibration, baseline)
    form = make_form(config, split, checkpoint, "int8")
    calibration = calibrate_candidate(config, split, form)
    evaluation = evaluate_candidate(config, split, form, calibration, baseline, original)
    evidence = Evidence(evaluation=evaluation, leakage=count_leaks(config, split))
    decided = decide_on(config, evidence)
    evidence, decision = decided.evidence, decided.decision
    candidate = Candidate(config, dataset, split, form, evidence, decision)
    bento = build_bento(candidate)
    assert bento.tag == printed_tag(released.printed)
    assert bento.folder.is_relative_to(homes)
    return Made(config, split, evaluation, decided, candidate, bento)


def swap_the_labels(model: Path) -> None:
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    card["labels"].reverse()
    (model / "card.json").write_text(json.dumps(card), encoding="utf-8")


def read_capitals_as_capitals(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["normalizer"]["lowercase"]
    tokenizer["normalizer"]["lowercase"] = False
    (model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def forget_the_calibration(model: Path) -> None:
    change_the_card(model, calibration={"scale": [1.0, 1.0], "bias": [0.0, 0.0]})


def be_sure_of_nothing(model: Path) -> None:
    change_the_card(model, abstention={"threshold": None})


def change_the_card(model: Path, **changes: Any) -> None:
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    (model / "card.json").write_text(json.dumps(card | changes), encoding="utf-8")


OTHERWISE = r"served answers differ .* on \d+ of 60 test rows"


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (swap_the_labels, OTHERWISE),
        # The service does not even start: its golden answers are others.
        (read_capitals_as_capitals, "the model answers golden text"),
        (forget_the_calibration, "the model answers golden text"),
        (be_sure_of_nothing, OTHERWISE),
    ],
)
def test_a_bento_that_answers_otherwise_than_the_evaluation_is_not_released(
    made: Made, homes: Path, tamper: Callable[[Path], None], words: str
) -> None:
    tamper(made.bento.path("bento") / "src" / "model")
    write_manifest(made.bento.path("bento"), made.bento.tag)
    with pytest.raises(BentoError, match=words):
        made.prove()
    assert nothing_is_left(homes, made.bento)


def end_at_import(source: Path) -> None:
    with (source / "service.py").open("a", encoding="utf-8") as stream:
        stream.write("\nraise RuntimeError('the oven is cold')\n")


def lose_the_weights(source: Path) -> None:
    (source / "model" / "openvino.bin").unlink()


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (end_at_import, "RuntimeError: the oven is cold"),
        # The worker fails as it starts, and BentoML starts it again for ever.
        (lose_the_weights, "openvino.xml: cannot be read"),
    ],
)
def test_a_bento_that_does_not_start_is_an_error_with_the_end_of_its_log(
    made: Made, homes: Path, tamper: Callable[[Path], None], words: str
) -> None:
    tamper(made.bento.path("bento") / "src")
    write_manifest(made.bento.path("bento"), made.bento.tag)
    with pytest.raises(BentoError, match="was not ready after") as told:
        made.prove()
    assert words in str(told.value)
    assert nothing_is_left(homes, made.bento)


def nothing_is_left(homes: Path, bento: BentoManifest) -> bool:
    """Return whether no store, no proof and no process is left of a Bento that failed."""
    place = str(bento.path("bento"))
    serving = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if place in " ".join(process.info["cmdline"] or [])
    ]
    store = homes / "bentoml_home" / "bentos"
    proofs = [path for path in (homes / "ekiben_home/steps/prove").glob("*") if path.is_dir()]
    return not serving and not store.exists() and not proofs


def proof_and_report(released: ReleasedHomes) -> tuple[ProofReport, Path]:
    """Return what a release needs besides the Bento and its decision."""
    (file,) = (released.ekiben / "steps/prove").glob("*/manifest.json")
    return ProofReport.read(file), record_of(released).report


def test_what_was_not_proven_is_not_released(
    made: Made, homes: Path, released: ReleasedHomes
) -> None:
    proof, report = proof_and_report(released)
    swap_the_labels(made.bento.path("bento") / "src" / "model")
    with pytest.raises(BentoError, match="differs from what was proven"):
        release_bento(made.config, made.decided, made.bento, proof, report)
    changed = {"verdict": "reject", "action": "reject"}
    rejected = made.decided.decision.model_copy(update=changed)
    decided = made.decided.model_copy(update={"decision": rejected})
    with pytest.raises(BentoError, match="are not of one run"):
        release_bento(made.config, decided, made.bento, proof, report)
    stricter = load_config(CONFIG, ["gate.accuracy.min=0.9999"]).gate
    decided = made.decided.model_copy(update={"gate": stricter})
    with pytest.raises(BentoError, match=r'is not released: decision\.verdict is "pass" in the'):
        release_bento(made.config, decided, made.bento, proof, report)
    with pytest.raises(BentoError, match="only what is to be released is built"):
        build_bento(replace(made.candidate, decision=rejected))
    assert not (homes / "bentoml_home" / "bentos").exists()
    assert not list((homes / "ekiben_home").glob("releases/*/*"))


def test_what_was_rolled_back_is_not_released_again_by_the_same_run(
    made: Made, homes: Path, released: ReleasedHomes
) -> None:
    proof, report = proof_and_report(released)
    append("smoke", event("rolled back", "smoke:before", made.bento.tag, "mislabels refunds"))
    with pytest.raises(
        BentoError, match=f"rolled it back.+`ekiben rollback smoke {made.bento.tag}`"
    ):
        release_bento(made.config, made.decided, made.bento, proof, report)
    assert not (homes / "bentoml_home" / "bentos").exists()


def test_a_release_is_signed_and_signed_anew_when_its_key_changes(
    made: Made, homes: Path, released: ReleasedHomes
) -> None:
    proof, report = proof_and_report(released)
    for name in ("old", "new"):
        private, public = key_pair(homes, name)
        signing = made.config.release.model_copy(update={"signing_key": str(private)})
        config = made.config.model_copy(update={"release": signing})
        require_signing_key(config)
        for _ in range(2):
            record = release_bento(config, made.decided, made.bento, proof, report)
            require_whole_release(record.tag)
            require_signed_release(record.tag, public)
    with pytest.raises(BentoError, match="is not signed by the owner of"):
        require_signed_release(record.tag, homes / "old.pub")


def test_a_signing_key_that_cannot_sign_is_told_before_anything_is_read(
    made: Made, homes: Path
) -> None:
    key = made.config.release.model_copy(update={"signing_key": str(homes / "none.pem")})
    with pytest.raises(ConfigError, match=r"release\.signing_key: .+none\.pem: cannot be used"):
        run_line(made.config.model_copy(update={"release": key}))


# --- From an answer back to the rows --------------------------------------------------------------


# --- The champion ---------------------------------------------------------------------------------


@pytest.fixture
def champion_home(made: Made, homes: Path, released: ReleasedHomes) -> Path:
    """Put the released Bento into the test's own homes, as the champion; return its records."""
    records = homes / "ekiben_home" / "releases" / "smoke"
    shutil.copytree(released.ekiben / "releases" / "smoke", records)
    (homes / "bentoml_home").symlink_to(released.bentoml)
    return records


def as_another(evaluation: EvaluationReport) -> EvaluationReport:
    """Return the evaluation of a model that has predicted as much, and is not known as the same."""
    assert evaluation.original is not None
    original = evaluation.original.model_copy(update={"model": "0" * 64})
    return evaluation.model_copy(update={"original": original})


@pytest.mark.usefixtures("champion_home")
def test_a_model_is_not_compared_with_itself(made: Made) -> None:
    report = challenge_champion(made.config, made.split, made.evaluation)
    assert (report.status, report.champion) == ("missing", None)


def test_the_champion_s_own_bento_is_asked_about_the_rows_it_was_not_trained_on(
    made: Made, champion_home: Path
) -> None:
    (file,) = champion_home.glob("*.rows.npy")
    test = pq.read_table(made.split.path("test.parquet"))
    seen = np.load(file)
    assert not np.isin(fingerprints(test["text"]), seen).any()
    np.save(file, np.append(seen, fingerprints(test["text"][:10])))  # as if trained on ten of them
    report = challenge_champion(made.config, made.split, as_another(made.evaluation))
    assert (report.status, report.rows, report.left_out) == ("compared", 124, 10)
    assert report.champion == made.bento.tag
    # It is the same model under another name, which agrees with itself.
    assert all(given == other for _, given, other, _ in report.contest.counts)
    assert sum(rows for *_, rows in report.contest.counts) == 124
    margins = {"min_gain": {"accuracy": -0.2, "f1.macro": -0.2}}
    gate = Gate.model_validate({"champion": margins, "form": margins})
    decision = judge(gate, Evidence(evaluation=as_another(made.evaluation), challenge=report))
    assert decision.verdict == "pass"
    assert decision.rules[0].metric == "accuracy over champion"


def no_rows_known(records: Path) -> None:
    (file,) = records.glob("*.rows.npy")
    file.unlink()


def rows_that_are_none(records: Path) -> None:
    (file,) = records.glob("*.rows.npy")
    file.write_bytes(b"not numbers")


def other_labels(records: Path) -> None:
    copy_of_the_champion(records, lambda card: {**card, "labels": ["ham", "eggs"]})


def no_card(records: Path) -> None:
    copy_of_the_champion(records, lambda _: [])


def copy_of_the_champion(records: Path, change: Callable[[Any], Any]) -> None:
    """Let the record name a copy of the champion's Bento with another card."""
    (file,) = (each for each in records.glob("*.json") if "profile" not in each.name)
    record = ReleaseRecord.model_validate_json(file.read_text(encoding="utf-8"))
    copy = records / "bento"
    (copy / "src/model").mkdir(parents=True)
    card = json.loads((record.bento_path / "src/model/card.json").read_text(encoding="utf-8"))
    (copy / "src/model/card.json").write_text(json.dumps(change(card)), encoding="utf-8")
    record = record.model_copy(update={"bento_path": copy})
    file.write_text(record.model_dump_json(), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (no_rows_known, "what it was trained on is not known"),
        (rows_that_are_none, "what it was trained on is not known"),
        (other_labels, "knows the labels ['eggs', 'ham'], not ['ham', 'spam']"),
        (no_card, "has no readable card.json"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_unusable_and_the_report_says_why(
    made: Made, champion_home: Path, change: Callable[[Path], None], told: str
) -> None:
    change(champion_home)
    report = challenge_champion(made.config, made.split, as_another(made.evaluation))
    assert (report.status, report.rows, report.contest.counts) == ("unusable", 0, ())
    assert told in report.told
    assert report.champion == made.bento.tag


def test_without_a_release_there_is_no_champion(made: Made) -> None:
    report = challenge_champion(made.config, made.split, made.evaluation)
    assert (report.status, report.champion) == ("missing", None)


def test_one_can_walk_from_a_served_answer_back_to_the_source(
    released: ReleasedHomes, served: Served
) -> None:
    (answer,) = served.classify("Are we still on for lunch?")
    record_file = released.ekiben / "releases" / f"{answer['model'].replace(':', '/')}.json"
    record = ReleaseRecord.model_validate_json(record_file.read_text(encoding="utf-8"))
    bento = step(released, "build", BentoManifest, record.digests["bento"])
    proof = step(released, "prove", ProofReport, record.digests["proof"])
    assert bento.tag == record.tag == answer["model"]
    assert proof.parents["bento"] == bento.digest
    assert value_digest(record.decision.model_dump(mode="json")) == bento.parents["decision"]
    evaluation = step(released, "evaluate", EvaluationReport, record.decision.evidence["evaluate"])
    assert evaluation.digest == bento.parents["evaluation"] == proof.parents["evaluation"]
    calibration = step(
        released, "calibrate", CalibrationManifest, evaluation.parents["calibration"]
    )
    assert calibration.scaling == evaluation.scaling
    form = step(released, "form", CheckpointManifest, evaluation.parents["checkpoint"])
    assert form.digest == calibration.parents["checkpoint"] == bento.parents["checkpoint"]
    assert form.kind == "openvino-int8"
    checkpoint = step(released, "finetune", CheckpointManifest, form.parents["checkpoint"])
    original = step(released, "evaluate", EvaluationReport, evaluation.parents["original"])
    assert original.parents["checkpoint"] == checkpoint.digest
    split = step(released, "split", SplitManifest, checkpoint.parents["split"])
    assert split.digest == evaluation.parents["split"]
    duplicates = step(released, "deduplicate", DuplicateReport, split.parents["duplicates"])
    validation = step(released, "validate", ValidationReport, duplicates.parents["validation"])
    dataset = step(released, "ingest", DatasetManifest, validation.parents["dataset"])
    assert dataset.digest == bento.parents["dataset"]
    config = load_config(CONFIG)
    (rows,) = released.sources.glob("*/spam_collection.csv")
    assert dataset.parents["source"] == file_digest(rows) == pinned(config.data.uri)
    models = [folder_digest(path) for path in released.sources.glob("*/model")]
    assert checkpoint.parents["base_model"] in models
    assert checkpoint.parents["base_model"] == pinned(config.training.base_model)
    card = json.loads((record.bento_path / "src/model/card.json").read_text(encoding="utf-8"))
    assert card["digests"] == bento.parents
    assert card["calibration"] == calibration.scaling.model_dump(mode="json")
    assert card["decision"] == record.decision.model_dump(mode="json")
    assert record.digests["config"] == value_digest(record.config)


def step(homes: Homes, stage: str, kind: type[M], digest: str) -> M:
    """Return the one manifest of a stage with that digest, its files being as it says."""
    found = [
        manifest
        for file in (homes.ekiben / "steps" / stage).glob("*/manifest.json")
        if (manifest := kind.read(file)).digest == digest
    ]
    assert len(found) == 1
    for name, expected in found[0].files.items():
        assert file_digest(found[0].path(name)) == expected
    return found[0]


def pinned(uri: str) -> str:
    return uri.partition("#sha256=")[2]


# --- What the data holds cannot get out of the report ---------------------------------------------


def test_markup_in_texts_labels_and_names_comes_out_as_text_in_the_report(
    homes: Path, tiny_model: Path
) -> None:
    labels = ['<script>alert("ham")</script>', "spam'--><img src=x onerror=alert(1)>"]
    rows = homes / "rows<b>.jsonl"
    with rows.open("w", encoding="utf-8") as stream:
        for i in range(400):
            text = f'<script>alert({i})</script> "quoted" {["lunch", "prize"][i % 2]}'
            stream.write(json.dumps({"text": text, "label": labels[i % 2]}) + "\n")
        stream.write(json.dumps({"text": "<script>odd</script>", "label": "<u>"}) + "\n")
    config = PipelineConfig.model_validate(
        {
            "name": "marked",
            "data": {"uri": str(rows), "labels": labels, "cleaning": {"unescape_html": True}},
            "training": {"base_model": str(tiny_model), "num_train_epochs": 1, "device": "cpu"},
            "gate": {"recall": {"min_per_class": dict.fromkeys(labels, 0.5)}, "min_test_rows": 1},
        }
    )
    dataset = read_dataset(config.data)
    validation = validate_dataset(config, dataset)
    assert validation.rows_quarantined == 1
    duplicates = find_duplicates(config, dataset, validation)
    suspects = find_label_errors(config, dataset, duplicates)
    split = split_rows(config, dataset, duplicates, suspects)
    checkpoint = fine_tune(config, split)
    calibration = calibrate_candidate(config, split, checkpoint)
    baseline = fit_baseline(config, split)
    evaluation = evaluate_candidate(config, split, checkpoint, calibration, baseline)
    decision = judge(config.gate, Evidence(evaluation=evaluation))
    run = Run(
        config, dataset, validation, duplicates, None, suspects, split, checkpoint, evaluation,
        decision, calibration=calibration,
    )  # fmt: skip
    page = write_report(run).read_text(encoding="utf-8")
    references = References(page)
    assert not {"script", "img", "b", "u"} & set(references.elements)
    assert references.outside() == []
    shown = html.unescape(re.sub(r"<!--.*?-->|<[^>]*>", " ", page, flags=re.DOTALL))
    for label in labels:
        assert f"recall.{label}" in shown
    assert "rows<b>.jsonl" in shown
    assert "alert(7)" not in page
