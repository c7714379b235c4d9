"""Whatever bytes a reader gets, it answers or raises `UserError`; and never half a number."""

import math
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.xds import (
    KINDS,
    Log,
    read_any,
    read_correct,
    read_hkl,
    read_idxref,
    read_integrate,
    read_pointless,
    read_spot_xds,
    read_xdsconv,
    read_xparm,
    read_xscale,
    read_xscale_inp,
    recognise,
)

READERS = {
    "IDXREF.LP": read_idxref,
    "INTEGRATE.LP": read_integrate,
    "CORRECT.LP": read_correct,
    "CORRECT_2009.LP": read_correct,
    "XSCALE.LP": read_xscale,
    "XDSCONV.LP": read_xdsconv,
    "XPARM.XDS": read_xparm,
    "XPARM_2011.XDS": read_xparm,
    "SPOT_7.XDS": read_spot_xds,
    "XDS_ASCII_APPENDED.HKL": read_hkl,
    "XSCALE.HKL": read_hkl,
    "XSCALE_MERGED.HKL": read_hkl,
    "pointless.log": read_pointless,
    "XSCALE.INP": read_xscale_inp,
}
KIND = {
    "CORRECT_2009.LP": "CORRECT.LP", "CORRECT_NOT_REFINED.LP": "CORRECT.LP",
    "XSCALE_ONE_INPUT.LP": "XSCALE.LP", "XSCALE_NO_TABLE.LP": "XSCALE.LP",
    "XPARM_2011.XDS": "XPARM.XDS", "XDS.LP": "session log", "pointless.log": "POINTLESS log",
    "XDS_ASCII.HKL": "reflections", "XDS_ASCII_APPENDED.HKL": "reflections",
    "XSCALE.HKL": "reflections", "XSCALE_MERGED.HKL": "reflections",
    **{f"SPOT_{n}.XDS": "SPOT.XDS" for n in (4, 5, 7, 8)},
}  # fmt: skip
COMMON = {
    "max_examples": 40,
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


def test_every_kind_is_told_by_its_content(layouts, tmp_path):
    seen = set()
    for i, path in enumerate(layouts):
        disguised = tmp_path / f"{i}.txt"
        disguised.write_bytes(path.read_bytes())
        kind = recognise(disguised)
        assert kind == KIND.get(path.name, path.name)
        assert read_any(disguised).kind == kind
        seen.add(kind)
    assert seen == set(KINDS)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"###CBF: VERSION 1.5\n", "CBF"),
        (b" XDSSTAT version 3.12.2015\n", "XDSSTAT"),
        (b" Processing summary for data set x\n SHELXC\n", "summary of XDSAPP"),
        (b"   0  -1   0 103750.  39562.   1\n", "reflections of SHELX"),
        (b"INPUT_FILE=a.HKL\nOUTPUT_FILE=b.hkl SHELX\n", "the input of XDSCONV"),
        (b"Dear diary\n", "something else"),
        (b"1 2 3 4\n1 2 3\n", "something else"),
        (bytes(range(256)) * 9, "something else"),
    ],
)
def test_what_is_not_of_xds_is_refused_by_its_name(written, data, found):
    with pytest.raises(UserError, match=found):
        read_any(written(data))


def test_a_session_log_tells_its_programs_and_their_errors(layout, written):
    session = read_any(written(layout("XDS.LP"))).content
    assert [banner.program for banner in session.banners] == ["XDS", "COLSPOT"]
    assert session.messages[0].text == "NO SPOTS"


def plain(value):
    """A value that can be compared, with NaN as None."""
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def is_part_of(part, whole):
    """`part` says nothing that `whole` contradicts: less, but not other."""
    if part is None or part == whole or part == "" or part is False:
        return True
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(
            is_part_of(a, b) for a, b in zip(part, whole, strict=False)
        )
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(is_part_of(part[key], whole[key]) for key in part)
    return False


LOGS = ["IDXREF.LP", "INTEGRATE.LP", "CORRECT.LP", "CORRECT_2009.LP", "XSCALE.LP", "XDSCONV.LP"]
# what the last of several decides, and how the cut itself is told
OTHER = {"complete", "stops_at", "messages", "refinement_accepted"}


@pytest.mark.parametrize("name", LOGS)
@settings(**COMMON)
@given(part=st.floats(0, 1))
def test_a_cut_log_says_less_but_nothing_else(layout, tmp_path_factory, name, part):
    text = layout(name)
    path = tmp_path_factory.mktemp("cut") / name
    path.write_text(text)
    whole = READERS[name](path)
    end = int(part * len(text))
    path.write_text(text[:end])
    try:
        cut = READERS[name](path)
    except UserError:
        assert text[:end].count("\n") < 2  # not even its banner
        return
    assert isinstance(cut, Log)
    assert cut.problems == ()
    if cut.complete:  # only what follows the closing line may be missing
        assert text[end:].count("\n") <= 6
    before, after = plain(cut), plain(whole)
    for key in set(before) - OTHER:
        assert is_part_of(before[key], after[key]), key


@pytest.mark.parametrize("name", [*READERS])
@settings(**COMMON)
@given(data=st.data())
def test_no_other_exception_leaves_a_reader(layout, tmp_path_factory, name, data):
    spoilt = bytearray(layout(name).encode())
    how = data.draw(st.sampled_from(["cut", "bytes", "pieces", "lines", "hole"]))
    at = st.integers(0, len(spoilt) - 1)
    if how == "cut":
        spoilt = spoilt[: data.draw(at)]
    elif how == "bytes":
        for i, byte in data.draw(st.lists(st.tuples(at, st.integers(0, 255)), max_size=40)):
            spoilt[i] = byte
    elif how == "pieces":
        odd = st.sampled_from([b"*", b"9", b"-", b".", b" ", b"\n", b"NaN", b"1e999", b"\0"])
        for i, piece in data.draw(st.lists(st.tuples(at, odd), max_size=20)):
            spoilt[i : i + 1] = piece
    elif how == "lines":
        lines = bytes(spoilt).split(b"\n")
        spoilt = bytearray(b"\n".join(data.draw(st.permutations(lines))))
    else:
        first, second = sorted((data.draw(at), data.draw(at)))
        del spoilt[first:second]
    path = tmp_path_factory.mktemp("spoilt") / name
    path.write_bytes(bytes(spoilt))
    for reader in (READERS[name], read_any):
        try:
            reader(path)
        except UserError as error:
            told = str(error)
            one_line = "\n" not in told
            assert one_line, told


@settings(**COMMON)
@given(data=st.binary(max_size=400))
def test_bytes_without_any_sense(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(data)
    for reader in (*READERS.values(), read_any):
        try:
            reader(path)
        except UserError:
            continue
