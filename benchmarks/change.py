"""Compare samples of real texts: alarms where nothing changed, and where something was put in.

`python -m benchmarks.change [--quick | --held-out]`. Both revisions are drawn from one set
with replacement, so that every difference between them is chance, but for the change that is put
into one of them. The limits were chosen on SMS and tweets; the sets held out had no part in that.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, surroundings
from benchmarks.texts import Labelled, reuters_r8, shipped
from configs.schema import Change
from tasks import profiles
from tasks.change import compare_profiles
from tasks.profiles import NO_ROWS, Profile, language_of, profile_of
from tasks.sources import fetch

MEASURES = ("labels", "lengths", "vocabulary", "languages")
GERMAN = {
    "conf": "45932a9826359d455aa58eebc9304ddef14d944b2e870f26402edbe4ce8857d7",
    "contrib/admin": "94d63ec5517a6a5ab9e68177267eb08f65966f68fd1cee76394555c71a831ce4",
}
TOLD_ONCE = cache(language_of)
"""The language of each text, which stays the same in all trials."""
Rows = list[tuple[str, str]]
Injection = Callable[[Rows, np.random.Generator], Rows]


def german_sentences() -> list[str]:
    """Return what Django says in German, from its catalogue of messages."""
    sentences = []
    for part, digest in GERMAN.items():
        uri = f"pypi://django==5.2.1/django/{part}/locale/de/LC_MESSAGES/django.po#sha256={digest}"
        catalogue = fetch(uri).path.read_text(encoding="utf-8")
        for quoted in re.findall(r'^msgstr ((?:".*"\n)+)', catalogue, re.MULTILINE)[1:]:
            text = "".join(re.findall(r'"(.*)"', quoted))
            sentences.append(re.sub(r"%\(\w+\)s|%s|\\n", " ", text))
    return [sentence for sentence in sentences if len(sentence) > 20]


def replace_by(others: list[str]) -> Injection:
    """Return an injection that puts other texts in place of a tenth of the rows'."""

    def inject(rows: Rows, draw: np.random.Generator) -> Rows:
        new = draw.choice(np.array(others, dtype=object), len(rows) // 10)
        count = len(new)
        return [(text, row[1]) for text, row in zip(new, rows[:count], strict=True)] + rows[count:]

    return inject


def relabel(rows: Rows, _draw: np.random.Generator) -> Rows:
    """Move 5 of 100 rows from the most frequent label to the rarest."""
    labels = [label for _, label in rows]
    names = sorted(set(labels), key=labels.count)
    moved = {row for row, label in enumerate(labels) if label == names[-1]}
    chosen = set(sorted(moved)[: len(rows) // 20])
    return [(text, names[0] if at in chosen else label) for at, (text, label) in enumerate(rows)]


def lengthen(rows: Rows, _draw: np.random.Generator) -> Rows:
    """Make every text a fifth longer, by words from its own start."""
    return [(f"{text} {text[: len(text) // 5]}", label) for text, label in rows]


def add_words(rows: Rows, draw: np.random.Generator) -> Rows:
    """Add three words never used before to a tenth of the texts."""
    new = draw.choice([f"neologism{number}" for number in range(20)], (len(rows) // 10, 3))
    changed = [
        (" ".join([text, *words]), label) for words, (text, label) in zip(new, rows, strict=False)
    ]
    return changed + rows[len(changed) :]


def profile(rows: Rows, earlier: Profile = NO_ROWS) -> Profile:
    """Return the profile of rows that stand as pairs."""
    return profile_of([text for text, _ in rows], [label for _, label in rows], earlier)


def alarms(texts: Rows, size: int, trials: int, inject: Injection | None) -> dict[str, float]:
    """Return for each measure, and for any of them, the share of trials that raised an alarm."""
    raised = dict.fromkeys((*MEASURES, "any"), 0)
    for seed in range(trials):
        draw = np.random.default_rng(seed)
        before, now = ([texts[at] for at in draw.integers(len(texts), size=size)] for _ in range(2))
        if inject is not None:
            now = inject(now, draw)
        report = compare_profiles(profile(now), profile(before), Change())
        raised["any"] += report.verdict != "ok"
        for shift in report.shifts:
            if shift.measure in raised:
                raised[shift.measure] += shift.verdict != "ok"
    return {measure: round(count / trials, 3) for measure, count in raised.items()}


def speed(texts: Rows) -> dict[str, float]:
    """Return microseconds of processor time a row, over batches of distinct texts, and the size."""
    language_of("load the model first")
    rows = [(f"{text} {number}", label) for number, (text, label) in enumerate(texts * 6)]
    started = time.process_time()
    whole = NO_ROWS
    for start in range(0, len(rows), 10_000):
        whole = profile(rows[start : start + 10_000], whole)
    spent = time.process_time() - started
    return {
        "rows": len(rows),
        "characters_per_row": round(sum(len(text) for text, _ in rows) / len(rows), 1),
        "microseconds_per_row": round(1e6 * spent / len(rows), 2),
        "profile_kilobytes": round(len(whole.model_dump_json()) / 1000, 1),
    }


def main(arguments: list[str]) -> None:
    """Measure, print a table, and write `benchmarks/results/change*.json`."""
    quick, held_out = "--quick" in arguments, "--held-out" in arguments
    sms, tweets = rows_of(shipped("sms_spam")), rows_of(shipped("tweet_sentiment"))
    sets = {"sms_spam": (sms, tweets)}
    if held_out:
        sets = {
            "zh_reviews": (rows_of(shipped("zh_reviews")), tweets),
            "reuters_r8": (rows_of(reuters_r8()), tweets),
        }
    elif not quick:
        sets |= {"tweet_sentiment": (tweets, sms)}
    found: list[dict[str, Any]] = []
    for name, (texts, others) in sets.items():
        changes: dict[str, Injection | None] = {
            "nothing": None,
            "5 points of labels": relabel,
            "20% longer": lengthen,
            "10% another source": replace_by([text for text, _ in others]),
            "10% German": replace_by(german_sentences()),
            "new words in 10%": add_words,
        }
        for size in (500,) if quick else (500, 5000):
            for change, inject in changes.items():
                trials = 5 if quick else 100 if inject is None else 10
                with patch.object(profiles, "language_of", TOLD_ONCE):
                    figures = alarms(texts, size, trials, inject)
                found.append(
                    {
                        "set": name,
                        "rows": size,
                        "change": change,
                        "trials": trials,
                        "alarms": figures,
                    }
                )
    results = {
        **surroundings(),
        "command": " ".join(["python", "-m", "benchmarks.change", *arguments]),
        "speed": speed(tweets[:5000] if quick else tweets),
        "comparisons": found,
    }
    file = RESULTS / f"change{'_quick' * quick or '_held_out' * held_out}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results)


def rows_of(texts: Labelled) -> Rows:
    """Return the texts with their labels as pairs."""
    return list(texts.items())


def _print(results: dict[str, Any]) -> None:
    table = Table("set", "rows", "change", "trials", *MEASURES, "any")
    for one in results["comparisons"]:
        shares = [f"{one['alarms'][measure]:.0%}" for measure in (*MEASURES, "any")]
        table.add_row(one["set"], str(one["rows"]), one["change"], str(one["trials"]), *shares)
    console = Console(width=120)
    console.print(table)
    console.print(results["speed"])


if __name__ == "__main__":
    main(sys.argv[1:])
