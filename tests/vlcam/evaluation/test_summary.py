"""Tables as JSON, Markdown and LaTeX."""

from __future__ import annotations

import json

from vlcam.evaluation.summary import Summary, Table, to_json, to_latex, to_markdown
from vlcam.metrics.estimates import mean


def test_of_a_single_image_there_is_no_error_and_the_summary_is_json() -> None:
    table = Table("Hits", ("map", "hits"), (("one", mean([1.0], [7])),))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = to_json(Summary((table,)), {}, [])
    ((row,),) = [t["rows"] for t in json.loads(text, parse_constant=refuse)["tables"]]
    assert row["hits"]["value"] == 1 and row["hits"]["error"] is None


def test_tables_as_text_and_as_latex() -> None:
    estimate = mean([0, 1, 1, 1], [1, 1, 2, 2])
    table = Table("Hits_1", ("map", "hits"), (("a & b", estimate), ("none", 3)), note="Note.")
    about = {"model": "m", "settings": {"limit": 3, "methods": ["a", "b"]}}
    text = to_markdown(Summary((table,), ("Paper.",)), "Title", about, ["one"])
    assert "<sub>model: m; settings: limit 3, methods a, b</sub>" in text
    assert "75.0 ± 25.0" in text and "## Hits_1, %" in text and "Could not be used: 1." in text
    latex = to_latex(Summary((table,)))
    assert r"a \& b & 75.0 $\pm$ 25.0 \\" in latex and r"Hits\_1 (\%)" in latex
