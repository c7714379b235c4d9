"""What all logs share: banners, messages, odd numbers, endings."""

import math

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.xds import log, read_any, read_idxref, read_xscale

CLOSING = " elapsed wall-clock time        0.7 sec\n"


@pytest.mark.parametrize(
    ("word", "value"),
    [("1.5", 1.5), ("-1.0E+00", -1.0), ("2.5D-03", 0.0025), (" 7 ", 7.0)],
)
def test_a_fortran_number(word, value):
    assert log.number(word) == value


@pytest.mark.parametrize("word", ["****", "", None, "NaN", "Infinity", "1e999", "abc", "1.2.3"])
def test_what_is_not_a_finite_number_is_undefined(word):
    assert math.isnan(log.number(word))


def test_numbers_of_a_fixed_format_may_touch():
    assert log.fixed("5324.610528.6-12.3", 1) == [5324.6, 10528.6, -12.3]
    assert log.numbers("-1.0E+00-1.0E+00 2.5E-01") == [-1.0, -1.0, 0.25]
    assert math.isnan(log.fixed("  1.0*****  2.0", 1)[1])


def test_the_words_of_xds_for_undefined():
    assert math.isnan(log.undefined(-99.9))
    assert math.isnan(log.undefined(-99.0))
    assert log.undefined(-99.5) == -99.5
    assert log.percent("12.3%") == 0.123
    assert math.isnan(log.percent("-99.9%"))
    assert math.isnan(log.percent("******%"))


@pytest.mark.parametrize("values", [[0.0] * 6, [10, 10, 10, 90, 90, 180], [math.nan] * 6, [1.0]])
def test_what_cannot_be_a_cell_is_none(values):
    assert log.cell_or_none(values) is None


def test_a_run_ends_where_its_closing_line_stands(layout, written):
    whole = read_idxref(written(layout("IDXREF.LP")))
    assert whole.complete
    assert whole.stops_at == ""
    assert (whole.banner.version, whole.banner.build) == ("Feb 30, 2031", 20310230)


def test_a_cut_run_says_where_it_stops(layout, written):
    text = layout("IDXREF.LP")
    cut = read_idxref(written(text[: text.index("PARAMETERS OF THE REDUCED CELL")]))
    assert not cut.complete
    number, _, line = cut.stops_at.partition(": ")
    assert number == "line 20"
    assert text.splitlines()[19].strip().startswith(line)
    assert line.startswith("*  1       70")
    assert cut.n_spots == 345
    assert cut.reduced_cell is None
    assert cut.start_of_integration is None


def test_half_a_number_is_not_taken(layout, written):
    text = layout("IDXREF.LP")
    end = text.index("OUT OF     345") + len("OUT OF     34")
    assert read_idxref(written(text[:end])).n_spots is None


def test_the_banner_of_an_error_may_stand_anywhere(layout, written):
    # the reason comes before 900 bytes of advice, and there is no newline at the end
    advice = "\n".join(f" ADVICE NUMBER {i}, WHICH IS LONG ENOUGH" for i in range(12))
    text = layout("IDXREF.LP").replace(
        CLOSING, " !!! ERROR !!! INSUFFICIENT PERCENTAGE (< 50%) OF SPOTS\n" + advice
    )
    read = read_idxref(written(text))
    assert [m.headline for m in read.errors] == ["INSUFFICIENT PERCENTAGE (< 50%) OF SPOTS"]
    assert read.errors[0].text.endswith("ADVICE NUMBER 11, WHICH IS LONG ENOUGH")
    assert [m.text for m in read.warnings] == ["The basis may be augmented."]
    assert text.splitlines()[read.errors[0].line - 1].startswith(" !!! ERROR !!!")
    assert read.complete  # it stopped for a reason that it gave


@pytest.mark.parametrize(
    ("line", "headline"),
    [
        (
            " !!! ERROR IN REFINE !!! RETURN CODE IS IER=           0",
            "IN REFINE RETURN CODE IS IER= 0",
        ),
        (" !!! Error !!! CANNOT INDEX REFLECTIONS", "CANNOT INDEX REFLECTIONS"),
        ("  !!! ERROR !!! MISPLACED PARAMETER", "MISPLACED PARAMETER"),
    ],
)
def test_spellings_of_an_error(layout, written, line, headline):
    assert (
        read_idxref(written(layout("IDXREF.LP").replace(CLOSING, line + "\n"))).errors[0].headline
        == headline
    )


def test_the_last_of_several_runs_is_read(layout, written):
    failed = layout("XSCALE.LP")[:900] + "\n !!! ERROR !!! CANNOT OPEN OR READ a\n"
    read = read_xscale(written(failed + layout("XSCALE.LP")))
    assert (read.n_runs, read.errors) == (2, ())
    assert len(read.inputs) == 3
    other_way = read_xscale(written(layout("XSCALE.LP") + failed))
    assert other_way.errors[0].headline == "CANNOT OPEN OR READ a"
    assert other_way.outputs == ()


def test_zero_bytes_and_carriage_returns_do_not_matter(layout, written):
    text = layout("IDXREF.LP").replace("\n", "\r\n") + "\0" * 500
    assert read_idxref(written(text)).start_of_integration is not None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"hello\n", "no banner of IDXREF"),
        (b" ***** CORRECT ***** (VERSION Feb 30, 2031)\n", "a log of CORRECT"),
    ],
)
def test_other_files_are_refused(written, data, found):
    with pytest.raises(UserError, match=found):
        read_idxref(written(data))


def test_missing_files_and_folders_are_refused(tmp_path):
    for path in (tmp_path / "missing.LP", tmp_path, "a\0b"):
        with pytest.raises(UserError):
            read_idxref(path)


def test_a_line_that_no_program_writes_is_told_and_not_searched(layout, written):
    text = layout("IDXREF.LP").replace("     2           33\n", "*" * 500_000 + "\n")
    read = read_idxref(written(text))
    (problem,) = read.problems
    assert problem == "line 28: 500000 characters, not read"
    assert read.indexing.n_indexed == 222


@pytest.mark.parametrize("filling", ["1.0", "9", "*", " ", "!", "* ", "1 ", "(", "-", "[", "1.0 "])
def test_no_pattern_searches_for_ever(layout, written, layouts, filling):
    # each line of each log made as long as may be: seconds, not centuries
    for path in layouts:
        if path.suffix not in (".LP", ".log"):
            continue
        lines = layout(path.name).splitlines(keepends=True)
        for i in range(8, len(lines), 5):
            if lines[i].strip():
                head = lines[i].rstrip("\n")[: len(lines[i]) // 2]
                lines[i] = head + (filling * 900)[: 900 - len(head)] + "x\n"
        try:
            read_any(written("".join(lines)))
        except UserError:
            continue
