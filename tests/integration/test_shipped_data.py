"""The data of every shipped config: what the raw file holds twice, and what the split lets through."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from configs.loading import load_config
from configs.schema import PipelineConfig
from tasks.auditing import find_label_errors
from tasks.duplicates import find_duplicates
from tasks.ingest import read_dataset
from tasks.manifests import DatasetManifest, DuplicateReport, SplitManifest
from tasks.shingles import jaccard, shingles
from tasks.splitting import SIDES, split_rows
from tasks.validation import validate_dataset

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(file.stem for file in (ROOT / "configs").glob("*.yaml"))
AS_IT_IS = {
    "unicode": "none", "unescape_html": False, "remove_control_characters": False,
    "collapse_whitespace": False, "chinese": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """The data stages of a config, without the audit, which takes no row unless asked."""

    dataset: DatasetManifest
    quarantined: int
    duplicates: DuplicateReport
    split: SplitManifest | None = None


def data_of(config: PipelineConfig, *, split: bool = False) -> Data:
    dataset = read_dataset(config.data)
    validation = validate_dataset(config, dataset)
    duplicates = find_duplicates(config, dataset, validation)
    if not split:
        return Data(dataset, validation.rows_quarantined, duplicates)
    labels = find_label_errors(config, dataset, duplicates)
    sides = split_rows(config, dataset, duplicates, labels)
    return Data(dataset, validation.rows_quarantined, duplicates, sides)


@pytest.fixture(scope="module", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterable[None]:
    """Keep the steps in a home of this module's own, and the sources where they are kept."""
    from tasks.steps import home

    sources = home() / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("home")
    (folder / "sources").symlink_to(sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKIBEN_HOME", str(folder))
        yield


def shipped(name: str, *overrides: str) -> PipelineConfig:
    return load_config(ROOT / "configs" / f"{name}.yaml", ["label_errors.action=none", *overrides])


def readme_counts() -> dict[str, list[int]]:
    """Return the figures of the README's table of the files, by the name of the config."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(next(line for line in lines if line.startswith("| the file of | rows |")))
    table = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        table[name.strip("`")] = [int(cell.replace(",", "")) for cell in cells]
    return table


@pytest.mark.parametrize("name", ["sms_spam", "tweet_sentiment", "zh_reviews"])
def test_the_readme_counts_what_the_raw_file_holds_twice(name: str) -> None:
    overrides = [f"data.cleaning.{key}={str(off).lower()}" for key, off in AS_IT_IS.items()]
    raw = data_of(shipped(name, *overrides, "duplicates.near_jaccard=null"))
    found = raw.duplicates
    valid = raw.dataset.rows - raw.quarantined
    distinct = found.rows_kept + found.conflicting_texts
    cleaned = data_of(shipped(name))
    assert readme_counts()[name] == [
        raw.dataset.rows,
        valid - distinct,
        found.conflicting_texts,
        cleaned.quarantined,
        cleaned.duplicates.duplicates,
        cleaned.duplicates.conflicts,
        cleaned.duplicates.near_rows,
        cleaned.duplicates.rows_kept,
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_text_nor_near_copy_of_it_is_on_two_sides(name: str) -> None:
    config = shipped(name)
    least = config.duplicates.near_jaccard
    split = data_of(config, split=True).split
    assert least is not None and split is not None
    sides = {
        side: pq.read_table(split.path(f"{side}.parquet"))["text"].to_pylist() for side in SIDES
    }
    assert all(sides.values())
    seen = set(chain.from_iterable(sides.values()))
    assert len(seen) == sum(map(len, sides.values()))  # no text twice, on one side or on two
    assert list(leaks(sides, least)) == []


def leaks(sides: dict[str, list[str]], least: float) -> Iterable[tuple[str, str]]:
    """Yield the pairs of near-copies on different sides, by comparing all texts.

    Two sets with a Jaccard index of at least t share one of the rarest n - ceil(t n) + 1 members
    of either (prefix filter: Bayardo, Ma, Srikant 2007), so that only such pairs are compared.
    """
    cut = cache(shingles)
    texts = [(side, text) for side, found in sides.items() for text in found]
    rank = Counter(chain.from_iterable(cut(text) for _, text in texts))
    by_shingle: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for side, text in texts:
        own = sorted(cut(text), key=lambda shingle: (rank[shingle], shingle))
        compared: set[str] = set()
        for shingle in own[: len(own) - -int(-least * len(own) // 1) + 1]:
            for other_side, other in by_shingle[shingle]:
                if other_side == side or other in compared:
                    continue
                compared.add(other)
                if jaccard(cut(text), cut(other)) >= least:
                    yield text, other
            by_shingle[shingle].append((side, text))


def test_the_comparison_of_all_texts_finds_what_was_put_there() -> None:
    long = " ".join(f"word {number}" for number in range(30))
    sides = {"train": [long, "other"], "validation": [], "test": [long[:-1], "something else"]}
    assert list(leaks(sides, 0.9)) == [(long[:-1], long)]
    assert list(leaks({"train": [long, long[:-1]], "test": []}, 0.9)) == []
