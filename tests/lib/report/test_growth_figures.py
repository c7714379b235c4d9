from __future__ import annotations

import numpy as np

from ewaldflow.lib.report.growth_figures import completeness_by_series


def test_a_line_for_each_phase() -> None:
    growth = {"phase 1": [(4, 0.5), (8, 0.925)], "phase 2": [(3, 0.25)], "phase 3": []}
    (panel,) = completeness_by_series(growth).axes
    first, second, third = panel.get_lines()
    np.testing.assert_allclose(first.get_xydata(), [(4, 50), (8, 92.5)])
    np.testing.assert_allclose(second.get_xydata(), [(3, 25)])
    assert len(third.get_xydata()) == 0
    legend = panel.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "phase 1: 92 %", "phase 2: 25 %", "phase 3",
    ]  # fmt: skip
