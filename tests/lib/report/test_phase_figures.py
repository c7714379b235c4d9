import numpy as np
import pytest

from ewaldflow.lib.phases.cell_record import CellRecord
from ewaldflow.lib.phases.phases import find_phases
from ewaldflow.lib.report.phase_figures import cell_dendrogram, cell_histograms, colour_of

MFI = (20.09, 19.738, 13.142, 90.0, 90.0, 90.0)
MOR = (18.256, 20.534, 7.542, 90.0, 90.0, 90.0)


def session(n):
    rng = np.random.default_rng(0)
    records = []
    for i in range(n):
        cell, bravais = ((*MOR,), "oC") if i % 2 else ((*MFI,), "oP")
        edges = np.array(cell[:3]) * (1 + 0.003 * rng.normal(size=3))
        records.append(CellRecord(f"s{i}", (*edges, 90.0, 90.0, 90.0), bravais))
    return find_phases([*records, CellRecord("wild", (5, 6, 7, 80, 85, 95))])


@pytest.mark.parametrize("n", [0, 1, 12, 100])
def test_figures_are_drawn_for_any_number_of_series(n):
    phases = session(n)
    for draw in (cell_dendrogram, cell_histograms):
        drawing = draw(phases)
        drawing.draw_without_rendering()
        assert drawing.axes


def test_leaves_carry_the_colours_of_their_phases():
    phases = session(12)
    colours = colour_of(phases)
    panel = cell_dendrogram(phases).axes[0]
    labels = {t.get_text(): t.get_color() for t in panel.get_xticklabels()}
    assert labels == colours
    assert len(set(colours.values())) == 3  # two phases and the outlier
    # the cut is drawn where it is, in per cent
    dashed = [line for line in panel.get_lines() if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == pytest.approx(100 * phases.cut)


def test_histograms_hold_every_series_once():
    phases = session(12)
    panel = cell_histograms(phases).axes[0]
    assert sum(p.get_height() for p in panel.patches) == 13
