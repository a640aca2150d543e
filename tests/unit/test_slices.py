"""Slices: every row in one slice of each kind, in any script, and names that a report can hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import config_of, many, split_of

from configs.errors import DataError
from configs.schema import PipelineConfig
from tasks.manifests import SliceCounts
from tasks.slice_rules import confusion_of_slice
from tasks.slices import slices_of

ENGLISH = "Shall we meet at the station for lunch tomorrow, or would you rather stay at home?"
CHINESE = "这家餐厅的菜很好吃，服务员也非常热情，下次我还会带朋友一起来。"


def config_with(**slicing: Any) -> PipelineConfig:
    """Return a config that keeps a column `source` and divides the test rows in one way."""
    return PipelineConfig.model_validate(
        {
            **config_of({"near_jaccard": None}).model_dump(),
            "data": {"uri": "x.csv", "labels": ["ham", "spam"], "slice_columns": ["source"]},
            "evaluation": {"slices": [slicing]},
        }
    )


def sliced(
    texts: list[str], values: list[str | None] | None = None, **slicing: Any
) -> dict[str, int]:
    """Return the rows of each slice by name, of texts with those values of `source`."""
    sources = [[value] for value in values or [None] * len(texts)]
    test = pa.table({"text": texts, "slices": pa.array(sources, pa.list_(pa.string()))})
    zeros = np.zeros(len(texts), dtype=np.int64)
    found = slices_of(config_with(**slicing), test, zeros, zeros)
    return {each.name: sum(rows for _, _, rows in each.cells) for each in found}


def rows_to_test(homes: Path, values: list[str], **slicing: Any) -> pa.Table:
    """Return the test rows of a split of 2000 rows with those values of `source`."""
    rows = [{**row, "slices": [value]} for row, value in zip(many(2000), values, strict=True)]
    folder = homes / f"{len(set(values))} {len(slicing)}"
    config = config_with(by="column", column="source", **slicing)
    return pq.read_table(split_of(folder, rows, config).path("test.parquet"))


def test_rows_are_divided_by_length_in_characters_of_any_script() -> None:
    texts = ["a" * 9, "a" * 10, "喵" * 10, "喵" * 29, "喵" * 30, "a" * 500]
    assert sliced(texts, by="length", edges=[10, 30]) == {
        "length=0-9": 1, "length=10-29": 3, "length=30+": 2,
    }  # fmt: skip
    assert list(sliced(["a"], by="length")) == [
        "length=0-49", "length=50-99", "length=100-199", "length=200-499", "length=500+",
    ]  # fmt: skip


def test_rows_are_divided_by_language_most_rows_first() -> None:
    assert sliced([CHINESE, ENGLISH, ENGLISH], by="language") == {
        "language=en": 2, "language=zh": 1,
    }  # fmt: skip


def test_rows_are_divided_by_a_column_and_one_without_a_value_has_a_slice_too() -> None:
    values = ["web", " web ", "app", "网站", None, "", " "]
    found = sliced(list("abcdefg"), values, by="column", column="source")
    assert found == {"source=(none)": 3, "source=web": 2, "source=app": 1, "source=网站": 1}
    assert list(found)[:2] == ["source=(none)", "source=web"]


def test_rare_values_are_one_slice_that_comes_last() -> None:
    values: list[str | None] = ["a", "b", "b", "c", "d"]
    found = sliced(list("12345"), values, by="column", column="source", name="from", min_rows=2)
    assert found == {"from=b": 2, "from=(other)": 3}
    assert list(found) == ["from=b", "from=(other)"]


def test_rows_are_divided_by_whether_a_pattern_is_found_in_them() -> None:
    texts = ["see http://x.org", "lunch", "看 https://x.org", "好吃"]
    slicing: dict[str, Any] = {"by": "pattern", "name": "has_url"}
    assert sliced(texts, **slicing, pattern="https?://") == {"has_url=yes": 2, "has_url=no": 2}
    assert sliced(texts, **slicing, pattern=r"\p{Han}") == {"has_url=yes": 2, "has_url=no": 2}
    assert sliced(texts, **slicing, pattern="^$") == {"has_url=yes": 0, "has_url=no": 4}


def test_a_pattern_takes_no_time_that_explodes_with_the_text() -> None:
    # One that tracks back would try 2**100000 ways.
    slow: dict[str, Any] = {"by": "pattern", "name": "slow", "pattern": "(a+)+$"}
    assert sliced(["a" * 100_000 + "!"], **slow) == {"slow=yes": 0, "slow=no": 1}


@pytest.mark.parametrize("count", [50, 51])
def test_fifty_slices_are_the_most(homes: Path, count: int) -> None:
    values = [f"value {number % count}" for number in range(2000)]
    if count == 50:
        assert len(rows_to_test(homes, values)) > 200
        return
    with pytest.raises(DataError, match="'source' divides the test rows into 51 slices, above 50"):
        rows_to_test(homes, values)
    assert len(rows_to_test(homes, [*values[:51], *["often"] * 1949], min_rows=20)) > 200


def test_a_row_keeps_its_values_through_the_split(homes: Path) -> None:
    values = [f"value {number % 7}" for number in range(2000)]
    table = rows_to_test(homes, values)
    assert len(table) > 200
    for row in table.to_pylist():
        assert row["slices"] == [values[row["row"] - 1]]


@pytest.mark.parametrize("length", [100, 101])
def test_a_hundred_characters_are_the_longest_name(homes: Path, length: int) -> None:
    values = ["often" if number % 5 else "x" * length for number in range(2000)]
    if length == 100:
        assert len(rows_to_test(homes, values)) > 200
        return
    with pytest.raises(DataError) as caught:
        rows_to_test(homes, values)
    assert "'source' has a value of 101 characters, above 100" in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_the_slices_of_one_kind_add_up_to_the_confusion_matrix() -> None:
    draw = np.random.default_rng(0)
    actual, predicted = draw.integers(0, 2, (2, 500))
    lengths = draw.integers(1, 100, 500)
    test = pa.table({"text": ["a" * length for length in lengths.tolist()]})
    found = slices_of(config_with(by="length", edges=[20, 60]), test, predicted, actual)
    for each, own in zip(
        found, [lengths < 20, (lengths >= 20) & (lengths < 60), lengths >= 60], strict=True
    ):
        expected = np.zeros((2, 2), dtype=np.int64)
        np.add.at(expected, (actual[own], predicted[own]), 1)
        assert np.array_equal(confusion_of_slice(each, 2), expected)


def test_a_slice_s_confusion_matrix_has_the_actual_label_down() -> None:
    counted = SliceCounts(by="length", value="0-9", cells=((0, 0, 7), (1, 0, 3)))
    assert confusion_of_slice(counted, 2).tolist() == [[7, 0], [3, 0]]
