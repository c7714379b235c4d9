from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.engines.xds_document import XdsDocument

TEXT = (
    "! Möller's file, in Latin-1\r\n"
    "JOB= ALL  ! later more\r\n"
    "\r\n"
    "NX=516     NY=516             !Number of pixels\r\n"
    "!ORGX= 1 ORGY= 2\r\n"
    "ORGX= 243.90    ORGY= 227.73           !Detector origin\r\n"
    " REFINE(IDXREF)=    BEAM AXIS !POSITION\r\n"
    "UNTRUSTED_RECTANGLE= 255 262 0 517\r\n"
    "FRIEDEL'S_LAW=TRUE"
)
DOCUMENT = XdsDocument.from_bytes(TEXT.encode("latin-1"))


def changed(document: XdsDocument) -> str:
    return document.to_bytes().decode("latin-1")


def test_values_are_found_outside_comments() -> None:
    assert DOCUMENT.value("ORGX") == "243.90"
    assert DOCUMENT.value("NY") == "516"
    assert DOCUMENT.value("REFINE(IDXREF)") == "BEAM AXIS"
    assert DOCUMENT.value("FRIEDEL'S_LAW") == "TRUE"
    assert DOCUMENT.value("JOB") == "ALL"
    assert DOCUMENT.value("LIB") is None


def test_a_value_is_replaced_in_its_place() -> None:
    assert changed(DOCUMENT.with_value("ORGY", "230.00")) == TEXT.replace(
        "ORGY= 227.73           !Det", "ORGY= 230.00           !Det"
    )
    assert changed(DOCUMENT.with_value("NX", "512")) == TEXT.replace("NX=516", "NX=512")


def test_a_missing_keyword_is_appended_with_the_line_ends_of_the_file() -> None:
    one = DOCUMENT.with_value("DATA_RANGE", "1 9").with_value("LIB", "a.so")
    assert changed(one) == TEXT + "\r\n! added by ewaldflow\r\nDATA_RANGE= 1 9\r\nLIB= a.so\r\n"


def test_a_keyword_without_a_value_gets_one() -> None:
    one = XdsDocument.from_bytes(b"SPACE_GROUP_NUMBER= ! unknown\nREIDX=\n")
    assert one.value("SPACE_GROUP_NUMBER") == ""
    done = one.with_value("SPACE_GROUP_NUMBER", "4").with_value("REIDX", "1 0 0")
    assert done.to_bytes() == b"SPACE_GROUP_NUMBER= 4 ! unknown\nREIDX= 1 0 0\n"


def test_the_last_of_several_counts() -> None:
    one = XdsDocument.from_bytes(b"JOB= XYCORR\nJOB= IDXREF\n")
    assert one.value("JOB") == "IDXREF"
    assert one.with_value("JOB", "CORRECT").to_bytes() == b"JOB= XYCORR\nJOB= CORRECT\n"


def test_keywords_that_add_up_are_added_to() -> None:
    one = DOCUMENT.with_every("UNTRUSTED_RECTANGLE", ("255 262 0 517", "0 517 255 262"))
    assert one.values("UNTRUSTED_RECTANGLE") == ("255 262 0 517", "0 517 255 262")
    assert changed(one).startswith(TEXT)


def test_values_are_taken_out_into_comments() -> None:
    one = XdsDocument.from_bytes(b"SPOT_RANGE= 1 5\nNX= 5 SPOT_RANGE= 7 9 NY= 6 ! c\n")
    done = one.with_only("SPOT_RANGE", ("2 3",))
    assert done.values("SPOT_RANGE") == ("2 3",)
    assert (done.value("NX"), done.value("NY")) == ("5", "6")
    assert b"! SPOT_RANGE= 1 5\n" in done.to_bytes()
    assert b"! SPOT_RANGE= 7 9\n" in done.to_bytes()
    assert one.without("SPOT_RANGE").values("SPOT_RANGE") == ()


def test_a_file_that_cannot_be_read_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a readable XDS"):
        XdsDocument.read(tmp_path / "XDS.INP")


values = st.text("0123456789. -ABC", min_size=1, max_size=12).map(lambda t: " ".join(t.split()))
keys = st.sampled_from(["ORGX", "ORGY", "NX", "JOB", "ROTATION_AXIS", "REFINE(IDXREF)", "LIB"])


@given(st.binary(max_size=200))
def test_any_bytes_are_kept(data: bytes) -> None:
    assert XdsDocument.from_bytes(data).to_bytes() == data


@given(st.binary(max_size=100), keys, values.filter(bool))
def test_setting_a_value_is_idempotent_and_heard(data: bytes, key: str, value: str) -> None:
    once = XdsDocument.from_bytes(data).with_value(key, value)
    assert once.value(key) == value
    assert once.with_value(key, value) == once


@given(keys, values.filter(bool), keys)
def test_other_keywords_are_left_alone(key: str, value: str, other: str) -> None:
    done = DOCUMENT.with_value(key, value)
    if other != key:
        assert done.values(other) == DOCUMENT.values(other)
    # and the comments too
    assert changed(done).count("!") - changed(DOCUMENT).count("!") == (DOCUMENT.value(key) is None)
