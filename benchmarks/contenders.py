"""The contenders of `benchmarks.data`: each checks, or searches, the same file of rows.

A contender yields a stage's name and answers as each stage ends; first of all "ready", when its
imports and its rows are at hand.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from configs.schema import PipelineConfig

LABELS = ("negative", "neutral", "positive")
Stages = Iterator[tuple[str, Any]]


def pandas_and_gx(file: Path) -> Stages:
    """Check the rows as Great Expectations' own pages do: one frame, one suite, one run."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    yield "ready", None
    frame = pd.read_csv(file, keep_default_na=False, dtype=str)
    yield "read", {"rows": len(frame)}
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all")
    checks = [
        gxe.ExpectColumnValuesToNotBeNull(column="text"),
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\S"),
        gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=20_000),
        gxe.ExpectColumnValuesToNotBeNull(column="label"),
        gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(LABELS)),
        gxe.ExpectTableRowCountToBeBetween(min_value=100),
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="text", min_value=0.5),
    ]
    suite = context.suites.add(gx.ExpectationSuite(name="rows", expectations=checks))
    definition = gx.ValidationDefinition(name="rows", data=batch, suite=suite)
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": frame},
        result_format="COMPLETE",  # which rows failed, as a quarantine needs
    )
    counts = {
        f"{item.expectation_config.type}.{item.expectation_config.kwargs.get('column')}": (
            item.result.get("unexpected_count")
        )
        for item in result.results
        if item.expectation_config is not None
    }
    yield "validate", {"failed": counts}


def polars_alone(file: Path) -> Stages:
    """Ask the same questions in one polars query: the floor."""
    import polars as pl

    yield "ready", None
    frame = pl.read_csv(file, infer_schema=False)
    yield "read", {"rows": frame.height}
    text, label = pl.col("text"), pl.col("label")
    answer = frame.lazy().select(
        text.is_null().sum().alias("null"),
        (~text.str.contains(r"\S")).sum().alias("blank"),
        (~text.str.strip_chars().str.len_chars().is_between(1, 20_000)).sum().alias("length"),
        label.is_null().sum().alias("no_label"),
        (~label.is_in(list(LABELS))).sum().alias("label"),
        pl.len(),
        text.n_unique().alias("distinct"),
    )
    row = answer.collect().row(0)
    yield "validate", {"failed": list(row[:5])}


def _config(file: Path) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "measured",
            "data": {"uri": str(file), "labels": list(LABELS), "max_rows": 100_000_000},
            "gate": {"accuracy": {"min": 0.5}},
            "label_errors": {"action": "none"},  # its cost is bounded: see benchmarks.labels
        }
    )


def validate_alone(file: Path) -> Stages:
    """Validate rows that another process has read in."""
    import great_expectations  # noqa: F401 - its import is not what is measured

    from tasks.ingest import read_dataset
    from tasks.validation import validate_dataset

    config = _config(file)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(read_dataset, config.data).result()
    dataset = read_dataset(config.data)  # as the other has left it
    yield "ready", None
    report = validate_dataset(config, dataset)
    yield "validate", {"quarantined": report.rows_quarantined}


def ekiben_stages(file: Path) -> Stages:
    """Run the first third of the line: every stage as `ekiben check` does."""
    import great_expectations  # noqa: F401 - its import is not what is measured
    import scipy.sparse.csgraph  # noqa: F401

    from tasks.auditing import find_label_errors
    from tasks.comparing import profile_dataset
    from tasks.duplicates import find_duplicates
    from tasks.ingest import read_dataset
    from tasks.splitting import split_rows
    from tasks.validation import validate_dataset

    config = _config(file)
    yield "ready", None
    dataset = read_dataset(config.data)
    yield "ingest", {"rows": dataset.rows}
    report = validate_dataset(config, dataset)
    counts = {f"{rule.rule}.{rule.column}": rule.rows_failed for rule in report.rules}
    yield "validate", {"failed": counts}
    found = find_duplicates(config, dataset, report)
    yield (
        "deduplicate",
        {"duplicates": found.duplicates, "near_rows": found.near_rows, "kept": found.rows_kept},
    )
    profile_dataset(dataset, found)
    yield "profile", {}
    suspects = find_label_errors(config, dataset, found)
    sides = split_rows(config, dataset, found, suspects)
    yield "split", {"sides": sides.rows}


def near_alone(file: Path) -> Stages:
    """Find near-copies as the line does, with every pair's true Jaccard index, on texts in memory."""
    import numpy as np
    import pandas as pd

    from tasks.near_duplicates import (
        candidates,
        clusters,
        distinct,
        further_candidates,
        likely,
        near_copies,
    )
    from tasks.shingles import BANDS, bands_and_marks

    texts = pd.read_csv(file, keep_default_na=False, dtype=str)["text"].tolist()
    yield "ready", None
    (keys, marks), rows = bands_and_marks(texts), np.arange(len(texts))

    def texts_of(indices: Any) -> list[str]:
        return [texts[index] for index in indices.tolist()]

    def compare(found: list[Any]) -> Any:
        pairs = likely(distinct(np.concatenate(found)), marks, 0.9)
        return near_copies([pairs], texts_of, 0.9)[0]

    pairs = compare([candidates(keys[:, band], rows) for band in range(BANDS)])
    cluster = clusters(len(texts), [pairs])
    more = compare([further_candidates(keys[:, band], rows, cluster) for band in range(BANDS)])
    yield "near_copies", {"flagged": len(np.unique(np.concatenate([pairs, more])))}


def rensa_alone(file: Path) -> Stages:
    """Find near-copies with the fastest library alone, on words as its own pages do."""
    import pandas as pd
    from rensa import RMinHash, RMinHashLSH

    texts = pd.read_csv(file, keep_default_na=False, dtype=str)["text"].tolist()
    yield "ready", None
    matrix = RMinHash.digest_matrix_from_token_sets([text.split() for text in texts], 128, 42)
    index = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=16)
    flags = index.query_duplicate_flags_matrix_one_shot(matrix)
    yield "near_copies", {"flagged": sum(flags)}


CONTENDERS: dict[str, Callable[[Path], Stages]] = {
    "pandas_and_gx": pandas_and_gx,
    "polars": polars_alone,
    "ekiben": ekiben_stages,
    "ekiben_validate": validate_alone,
    "ekiben_near": near_alone,
    "rensa": rensa_alone,
}
