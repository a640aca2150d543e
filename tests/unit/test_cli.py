"""The command line: light at the start, exit codes, and errors of one line each."""

import ast
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from evaluations import leakage_of, report_of
from prefect.exceptions import PrefectHTTPStatusError

from configs.errors import (
    BentoError,
    ConfigError,
    DataError,
    EkibenError,
    SourceError,
    TrainingError,
)
from configs.schema import Gate
from flows import cli
from flows.cli import EXIT_CODES, main
from flows.forcing import checked_reason, forced_reason, forcing
from tasks.gate import judge
from tasks.manifests import Evidence
from tasks.records import record_of, write_record

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {
    "bentoml",
    "datasets",
    "evaluate",
    "great_expectations",
    "matplotlib",
    "numpy",
    "pandas",
    "prefect",
    "pyarrow",
    "pydantic",
    "sklearn",
    "sqlalchemy",
    "torch",
    "transformers",
}
GOOD = "name: sms\ndata: {uri: x.csv, labels: [a, b]}\ngate: {accuracy: {min: 0.9}}\n"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["ekiben", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


IMPORTED = """
import sys
from flows.cli import main
try:
    main()
except SystemExit as ended:
    code = ended.code
print(code, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def imported_by(*arguments: str) -> tuple[int, str, set[str]]:
    """Return exit code, standard output and all packages that a fresh process imported."""
    command = [sys.executable, "-c", IMPORTED, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *packages = ended.stderr.splitlines()[-1].split()
    return int(code), ended.stdout, set(packages)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code, shown, packages = imported_by("--help")
    assert code == 0
    assert all(
        f" {command} " in shown
        for command in ("run", "check", "freeze", "verify", "init", "deploy", "serve", "report")
    )
    assert packages > {"typer", "flows"}
    assert packages & HEAVY == set()


def test_a_bad_config_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    code, shown, packages = imported_by("run", str(tmp_path / "none.yaml"))
    assert (code, shown) == (2, "")
    assert packages & HEAVY == {"pydantic"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["--nosuch"],
        ["run"],
        ["run", "a.yaml", "b.yaml"],
        ["run", "a.yaml", "--set"],
        ["run", "a.yaml", "--nosuch"],
        ["run", "a.yaml", "--reason"],
        ["check"],
        ["check", "a.yaml", "--force"],
        ["freeze"],
        ["freeze", "a.yaml", "b.yaml"],
        ["freeze", "a.yaml", "--output"],
        ["verify"],
        ["verify", "a.json", "b.json"],
        ["init"],
        ["init", "a.csv", "b.csv"],
        ["init", "a.csv", "--nosuch"],
        ["init", "a.csv", "--name"],
        ["deploy"],
        ["report"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Error" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("command", ["run", "check", "freeze", "deploy"])
def test_a_bad_config_ends_with_2_and_a_line_a_problem(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    file = tmp_path / "sms.yaml"
    file.write_text(GOOD + "training: {seed: -1, device: tpu}\n")
    assert run(monkeypatch, command, str(file)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"error: {file}: training.seed: input should be greater than or equal to 0, got -1",
        f"error: {file}: training.device: input should be 'auto', 'cpu' or 'cuda', got 'tpu'",
    ]


@pytest.mark.parametrize("command", ["run", "check", "freeze"])
def test_a_bad_override_ends_with_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    file = tmp_path / "sms.yaml"
    file.write_text(GOOD)
    code = run(monkeypatch, command, str(file), "--set", "training.seed=1", "--set", "split.salt=7")
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: split.salt: ")


def test_one_bad_config_among_several_is_enough_to_refuse_them_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, missing = tmp_path / "good.yaml", tmp_path / "missing.yaml"
    good.write_text(GOOD)
    assert run(monkeypatch, "deploy", str(good), str(missing)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {missing}: cannot be read (No such file or directory)")


def test_the_report_of_a_pipeline_that_never_ran_is_an_error_in_words(
    homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "report", "sms") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: sms: has no report yet; run `ekiben run CONFIG` first")


@pytest.mark.parametrize("pipeline", ["No Such Pipeline", "../reports", "sms*", ""])
def test_a_name_that_no_pipeline_can_have_is_bad_usage(
    homes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pipeline: str,
) -> None:
    assert run(monkeypatch, "report", pipeline) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {pipeline}: is not the name of a pipeline")


def test_the_report_named_is_the_last_one(
    homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = homes / "ekiben_home" / "reports" / "sms"
    folder.mkdir(parents=True)
    for name in ("20250101T000000-rejected.html", "20250102T000000-released.html", "x.partial"):
        (folder / name).touch()
    assert run(monkeypatch, "report", "sms") == 0
    assert capsys.readouterr().out == f"{folder / '20250102T000000-released.html'}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--force"], "--force and --reason belong together"),
        (["--reason", "it is late"], "--force and --reason belong together"),
        (["--force", "--reason", ""], "--reason: expected one line of 1 to 500 characters"),
        (["--force", "--reason", " \t"], "--reason: expected one line of 1 to 500 characters"),
        (["--force", "--reason", "one\ntwo"], "--reason: expected one line of 1 to 500 characters"),
        (
            ["--force", "--reason", "a\x1b[31m"],
            "--reason: expected one line of 1 to 500 characters",
        ),
        (["--force", "--reason", "x" * 501], "--reason: expected one line of 1 to 500 characters"),
    ],
)
def test_a_model_is_forced_only_with_a_reason_in_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    problem: str,
) -> None:
    file = tmp_path / "sms.yaml"
    file.write_text(GOOD)
    assert run(monkeypatch, "run", str(file), *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {problem}")


def test_a_reason_stands_without_the_space_around_it() -> None:
    assert checked_reason(False, None) is None
    assert checked_reason(True, f" {'x' * 500} ") == "x" * 500


def test_nothing_is_forced_outside_the_run_that_was_asked_to() -> None:
    assert forced_reason() is None
    with forcing("because"):
        assert forced_reason() == "because"
    assert forced_reason() is None


@pytest.mark.parametrize(
    "override", ["gate.force=true", "gate.forced=why", "force=true", "forced=why", "reason=why"]
)
def test_no_config_can_force_a_model(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    override: str,
) -> None:
    file = tmp_path / "sms.yaml"
    file.write_text(GOOD)
    assert run(monkeypatch, "run", str(file), "--set", override) == 2
    assert "unknown key; remove it or correct its name" in capsys.readouterr().err


def test_no_parameter_of_the_flow_can_force_a_model() -> None:
    tree = ast.parse((ROOT / "flows" / "pipeline.py").read_text(encoding="utf-8"))
    (flow,) = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "pipeline" and node.decorator_list
    )
    assert [argument.arg for argument in flow.args.args] == ["config"]
    assert not (flow.args.kwonlyargs or flow.args.vararg or flow.args.kwarg)


# --- Verify ---------------------------------------------------------------------------------------


@pytest.fixture
def record(homes: Path) -> Path:
    """Return the file of a decision record."""
    gate, evidence = (
        Gate.model_validate({"accuracy": {"min": 0.99}}),
        Evidence(evaluation=report_of(), leakage=leakage_of(), uses=2),
    )
    return write_record(record_of("sms", gate, evidence, judge(gate, evidence)))


def test_a_record_is_verified_elsewhere_without_its_home_and_nothing_heavy_is_imported(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, empty = tmp_path / "elsewhere", tmp_path / "empty"
    elsewhere.mkdir()
    copy = elsewhere / "copy.json"
    record.rename(copy)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("EKIBEN_HOME", str(empty))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code, shown, packages = imported_by("verify", "copy.json")
    assert code == 0
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == "sms: reject"
    assert lines[-1] == "agrees"
    assert any(line.startswith("accuracy ") and "reject" in line for line in lines)
    assert any(line.startswith("this test set has decided on 2 models") for line in lines)
    assert packages & HEAVY == {"numpy", "pydantic"}
    assert not empty.exists()


def test_a_record_that_does_not_agree_ends_with_1_and_a_line_a_problem(
    record: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record.write_text(record.read_text().replace('"verdict": "reject"', '"verdict": "pass"'))
    assert run(monkeypatch, "verify", str(record)) == 1
    printed = capsys.readouterr()
    assert "agrees" not in printed.out
    lines = printed.err.splitlines()
    assert len(lines) == 3  # the digest, the decision's verdict, the rule's
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.parametrize("content", [None, "", "{}", "name: sms"])
def test_a_file_that_is_no_record_ends_with_1_and_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: str | None,
) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    assert run(monkeypatch, "verify", str(file)) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"error: {file}: ")


def test_every_outcome_and_every_error_has_its_exit_code() -> None:
    assert EXIT_CODES == {"Released": 0, "Rejected": 3, "Undecided": 4}
    assert ConfigError("x").exit_code == 2
    for error in (EkibenError, BentoError, DataError, SourceError, TrainingError):
        assert error("x").exit_code == 1


def test_an_error_holds_one_problem_or_several() -> None:
    assert EkibenError("one").problems == ["one"]
    assert EkibenError(("one", "two")).problems == ["one", "two"]
    assert str(EkibenError(["one", "two"])) == "one\ntwo"


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno 111] Connection refused"),
        PrefectHTTPStatusError(
            "Server error '503'",
            request=httpx.Request("GET", "http://x"),
            response=httpx.Response(503),
        ),
    ],
)
def test_a_prefect_server_that_is_gone_ends_a_run_in_words(error: Exception) -> None:
    def run() -> None:
        raise error

    with pytest.raises(EkibenError, match=r"^Prefect's server no longer answers") as caught:
        cli._answered(run)
    assert len(caught.value.problems) == 1
