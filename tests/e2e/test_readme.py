"""What the README says is true: its figures, commands, tree, and the user's own data."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import yaml
from evaluations import report_of

from bentos.text_classifier.settings import Settings
from configs.loading import load_config
from configs.schema import Gate
from flows.terminal import CURL_EXAMPLE
from tasks.gate import judge
from tasks.manifests import Evidence

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks/results/line.json").read_text(encoding="utf-8"))
EKIBEN = str(Path(sys.executable).with_name("ekiben"))


def block(after: str, language: str = "") -> str:
    """Return the first fenced block of a language after a heading."""
    section = README.split(f"## {after}\n", 1)[1]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_first_command_stands_within_two_screens() -> None:
    before = README.split("make demo", 1)[0]
    assert len(before.splitlines()) < 50


def test_the_make_commands_exist_and_set_up_by_themselves() -> None:
    for target in ("demo", "test"):
        shown = subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "-m venv .venv" in shown
        assert "constraints.txt" in shown


def test_the_demo_output_is_what_the_benchmark_recorded() -> None:
    shown = block("Try it")
    line = RESULTS["lines"]["sms_spam"]
    for name in ("accuracy", "precision.macro", "recall.macro"):
        figure, other = line["model"][name], line["baseline"][name]
        row = next(text for text in shown.splitlines() if text.strip().startswith(name))
        cells = row.split()
        assert cells[1] == f"{figure['value']:.4f}"
        assert cells[2:4] == [f"[{figure['low']:.4f},", f"{figure['high']:.4f}]"]
        assert cells[4] == str(figure["n"])
        assert cells[-2:] == [f"{other['value']:.4f}", "pass"]


def test_the_table_of_figures_is_what_the_benchmark_recorded() -> None:
    section = README.split("## What to expect\n", 1)[1].split("\n## ", 1)[0]
    for name, line in RESULTS["lines"].items():
        row = next(text for text in section.splitlines() if f"`{name}`" in text)
        for figure in ("accuracy", "precision.macro", "recall.macro"):
            model, other = line["model"][figure]["value"], line["baseline"][figure]["value"]
            assert f"{model:.3f} ({other:.3f})" in row


def test_the_call_is_the_one_that_the_line_prints() -> None:
    assert CURL_EXAMPLE in README
    answers = json.loads(block("Serve and call", "json"))
    for answer in answers:
        assert list(answer) == ["label", "probabilities", "unsure", "truncated", "model", "forced"]
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_every_setting_of_the_service_is_told_with_its_default() -> None:
    section = README.split("## Serve and call\n", 1)[1].split("\n## ", 1)[0]
    told: dict[str, str] = {}
    for line in section.splitlines():
        if re.match(r"\| `[A-Z_]+`", line):
            names, values, _ = (cell.strip() for cell in line.strip("|").split("|"))
            told |= zip(re.findall(r"`([A-Z_]+)`", names), values.split(", "), strict=False)
    settings = {each.name.upper(): str(each.default).lower() for each in fields(Settings)}
    assert told.keys() == settings.keys()
    in_words = ("KEYS_FILE", "PUBLIC_KEY", "ALLOWED_HOSTS")
    assert {n: told[n] for n in told if n not in in_words} == {
        name: default for name, default in settings.items() if name not in in_words
    }


def test_the_servers_are_compared_as_the_benchmark_recorded() -> None:
    recorded = json.loads((ROOT / "benchmarks/results/serving.json").read_text(encoding="utf-8"))
    names = {
        "the same, two workers of one thread": "BentoML fair",
        "BentoML, adaptive batching": "BentoML batched",
        "LitServe, batched": "LitServe batched",
        "infinity": "infinity",
        "LitServe with Ekiben's engine": "LitServe with our engine",
        "Ekiben, as trained": "Ekiben transformer",
        "Ekiben, fp32": "Ekiben openvino-fp32",
        "Ekiben, int8": "Ekiben openvino-int8",
        "Ekiben, the baseline": "Ekiben linear",
    }
    rows = [line.replace("*", "").strip("| ").split(" | ") for line in README.splitlines()]
    told = {row[0]: [float(cell) for cell in row[1:]] for row in rows if row[0] in names}
    assert told.keys() == names.keys()
    for name, cells in told.items():
        ratios = recorded["ratios"][names[name]]
        rates = [ratios[clients]["requests_per_second"][0] for clients in ("1", "16", "64")]
        others = [ratios["64"][figure][0] for figure in ("cpu_ms", "memory_mb")]
        for cell, value in zip(cells, [*rates, *others], strict=True):
            assert abs(cell - value) < 0.06


def test_every_command_is_listed_and_exists() -> None:
    listed = set(re.findall(r"^\| `ekiben (\w+)", README, re.MULTILINE))
    shown = subprocess.run([EKIBEN, "--help"], capture_output=True, text=True, check=True).stdout
    existing = set(re.findall(r"^│ (\w+) ", shown.split("Commands", 1)[1], re.MULTILINE))
    assert listed == existing


def test_the_tree_names_every_folder_once() -> None:
    listed = re.findall(r"^(\w+)/ ", block("The tree"), re.MULTILINE)
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    assert set(listed) == {name for name in folders if not name.startswith(".")}
    assert len(listed) == len(set(listed))


def test_your_own_data_passes_the_check_with_the_five_lines(homes: Path, tmp_path: Path) -> None:
    config = block("Your own data", "yaml")
    assert len(config.strip().splitlines()) == 5
    labels = yaml.safe_load(config)["data"]["labels"]
    rows = [f"review number {n} was {labels[n % 2]},{labels[n % 2]}" for n in range(200)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (tmp_path / "reviews.yaml").write_text(config)
    done = subprocess.run(
        [EKIBEN, "check", "reviews.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "200 rows valid, 0 quarantined" in done.stdout


def test_every_setting_named_exists() -> None:
    known = "".join(
        (ROOT / "configs" / name).read_text(encoding="utf-8")
        for name in ("schema.py", "serving.py", "training.py")
    )
    for name in re.findall(r"`(?:data|training|gate|split|serving)\.(\w+)", README):
        assert f"    {name}: " in known


def test_the_three_decisions_are_what_the_gate_says_of_those_rows() -> None:
    shown = re.search(r"(\d+) of (\d+) ham and (\d+) of (\d+) spam right", README)
    assert shown is not None
    ham_right, ham, spam_right, spam = map(int, shown.groups())
    confusion = np.array([[ham_right, ham - ham_right], [spam - spam_right, spam_right]])
    evidence = Evidence(evaluation=report_of(confusion))
    section = README.split("## The gate\n", 1)[1]
    rows = re.findall(r"^\| `(\{.+\})` \| (\w+), (\w+): (.+) \|$", section, re.MULTILINE)
    assert len(rows) == 3
    done = {"release": "released", "hold": "held", "reject": "rejected"}
    for gate, verdict, action, told in rows:
        decision = judge(Gate.model_validate(yaml.safe_load(gate)), evidence)
        assert (decision.verdict, done[decision.action]) == (verdict, action)
        assert decision.reasons == (told,) or told.startswith("the same; ")
    by_value = {**yaml.safe_load(rows[-1][0]), "judge_on": "value"}
    assert judge(Gate.model_validate(by_value), evidence).action == "release"


def test_the_settings_of_training_are_a_config(tmp_path: Path) -> None:
    config = yaml.safe_load(block("Your own data", "yaml")) | yaml.safe_load(
        block("Training", "yaml")
    )
    (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert load_config(tmp_path / "reviews.yaml").training.adapter is not None


def test_the_speed_of_training_is_what_the_benchmark_recorded() -> None:
    speed = json.loads((ROOT / "benchmarks/results/training.json").read_text(encoding="utf-8"))[
        "speed"
    ]
    for contender in ("padded", "grouped"):
        sms, tweets = (
            f"{speed[name]['ratios'][f'ours / {contender}']['median_of_turns']:.1f}"
            for name in ("sms_spam", "tweet_sentiment")
        )
        words = rf"{re.escape(sms)} (\(SMS\) )?and\s{re.escape(tweets)} (\(tweets\) )?times"
        assert re.search(words, README), (contender, sms, tweets)


def test_what_kills_came_to_is_what_the_benchmark_recorded() -> None:
    recorded = json.loads(
        (ROOT / "benchmarks/results/reliability.json").read_text(encoding="utf-8")
    )
    counted = [recorded["kills"][name] for name in ("release", "rollback", "prune")]
    times, rival, tamper = recorded["times"], recorded["bentoml"], recorded["tamper"]
    kills = sum(told["kills"] for told in counted)
    for told in [*counted, times]:
        failures = ("torn", "dangling", "unanswered", "unfinished", "left_bytes")
        assert [told[failure] for failure in failures] == [0] * 5
    assert f"each of their {sum(told['points'] for told in counted)} writes | {kills} |" in README
    assert f"asked {times['answered']:,} times and always answered | {times['kills']} |" in README
    assert f"before its writes | {rival['kills']} | {rival['torn']} |" in README
    both = kills + times["kills"]
    assert f"No failure in {both} kills" in README and f"fewer than 1 in {both // 3} " in README
    changes = tamper["changes"].values()
    damages = sum(told["refused"] for told in changes)
    assert {told["files"] for told in changes} == {damages // len(changes)}
    files, seconds = damages // len(changes), tamper["seconds_a_gb"]
    assert f"Of {damages} ways to damage a Bento's {files} files" in README
    assert tamper["false_refusals"] == 0 and f"a gigabyte takes {seconds:.1f} s" in README


def test_the_other_rules_are_a_config(tmp_path: Path) -> None:
    rules = yaml.safe_load(block("The gate", "yaml"))
    config = yaml.safe_load(block("Your own data", "yaml"))
    config |= {**rules, "gate": config["gate"] | rules["gate"]}
    (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert load_config(tmp_path / "reviews.yaml").gate.baseline.release_instead
