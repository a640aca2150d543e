"""The table of a decision: a line a rule, alike in the terminal, the report, the card and Prefect."""

from collections.abc import Iterable

from tasks.manifests import ChallengeReport, EvaluationReport, Figure, RuleVerdict

Line = dict[str, str]


def rule_table(
    rules: Iterable[RuleVerdict], evaluation: EvaluationReport, challenge: ChallengeReport | None
) -> list[Line]:
    """Return what stands in the columns of each rule, by name and in their order.

    They are rule, value, interval, n, limit, champion, baseline and verdict; another model that was
    not measured has no column.
    """
    others = {} if challenge is None or not challenge.figures else {"champion": challenge.figures}
    if evaluation.baseline and not evaluation.is_of_the_baseline:
        others["baseline"] = evaluation.baseline
    return [
        {
            "rule": rule.metric,
            **figure_cells(rule.figure),
            "limit": f"{'≤' if rule.at_most else '≥'} {rule.limit:g}",
            **{name: _value(figures.get(rule.metric)) for name, figures in others.items()},
            "verdict": rule.verdict,
        }
        for rule in rules
    ]


def figure_cells(figure: Figure | None) -> Line:
    """Return value, interval and denominator as text."""
    if figure is None or figure.value is None:
        return {"value": "undefined", "interval": "", "n": f"{figure.n:,}" if figure else ""}
    if figure.method == "counted":
        return {"value": f"{figure.value:,.0f}", "interval": "", "n": f"{figure.n:,}"}
    interval = "" if figure.low is None else f"[{figure.low:.4f}, {figure.high:.4f}]"
    return {"value": f"{figure.value:.4f}", "interval": interval, "n": f"{figure.n:,}"}


def _value(figure: Figure | None) -> str:
    return "" if figure is None or figure.value is None else f"{figure.value:.4f}"
