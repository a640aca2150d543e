"""The figures of `benchmarks.training` as tables."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

TITLES = {"padded": "(a) padded to 128", "grouped": "(b) grouped by length", "ours": "(c) ours"}


def tables(part: str, found: dict[str, Any]) -> Iterator[Table]:
    """Yield the tables of a part."""
    if part == "equal":
        yield _of_seeds(found)
        return
    for name, raced in found.items():
        if "left_out" in raced:
            yield Table(f"{name}: {raced['left_out']}")
        else:
            yield _of_race(f"{part}, {name}, {raced['updates']} updates", raced)


def _of_race(title: str, raced: dict[str, Any]) -> Table:
    contenders = raced["contenders"]
    table = Table("figure", *(TITLES[key] for key in contenders), title=title)
    rows = {
        key: _cells(one, raced["ratios"].get(f"ours / {key}")) for key, one in contenders.items()
    }
    for figure in next(iter(rows.values())):
        table.add_row(figure, *(cells[figure] for cells in rows.values()))
    return table


def _cells(one: dict[str, Any], ratio: dict[str, Any] | None) -> dict[str, str]:
    final, sums = one["validation"][-1], one["arithmetic"]
    reached = next(value for field, value in one.items() if field.startswith("seconds_to"))
    cells = {
        "computed by": one["forward"],
        "real tokens a second": f"{one['tokens_per_second']:,.0f}",
        "(c) is so many times as fast": "",
        "quartiles of turns": "",
        "by processor time": "",
        "peak memory, MiB": f"{one['memory_mb']:,.0f}",
        "validation accuracy": f"{final['accuracy']:.4f}",
        "validation macro F1": f"{final['f1']:.4f}",
        "seconds to the first's accuracy": "never" if reached is None else f"{reached:.1f}",
        "times the floor": f"{sums['times_the_floor']:.2f}",
        "model FLOP utilisation": f"{sums['model_flop_utilisation']:.1%}",
    }
    if ratio is not None:
        low, high = ratio["quartiles_of_turns"]
        cells["(c) is so many times as fast"] = f"{ratio['of_all']:.2f}"
        cells["quartiles of turns"] = f"{low:.2f} to {high:.2f}"
        cells["by processor time"] = f"{ratio['of_all_by_cpu_seconds']:.2f}"
    return cells


def _of_seeds(found: dict[str, Any]) -> Table:
    table = Table("data", "figure", "Trainer, by length", "ours", "difference", "95% interval", "p")
    for name, compared in found.items():
        for figure in ("accuracy", "f1", "loss"):
            one = compared[figure]
            both = [f"{one[key]['mean']:.4f} ± {one[key]['sd']:.4f}" for key in ("grouped", "ours")]
            ends, p = one["interval_95"], one["p"]
            interval = "" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}"
            cells = (f"{one['difference']:+.4f}", interval, "" if p is None else f"{p:.2f}")
            table.add_row(name, figure, *both, *cells)
    return table
