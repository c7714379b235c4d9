"""YAML that a user edits, read with errors that a user can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import UserError


def read_fields(
    path: Path, of: str = "", *, expected: str = "a YAML file", do: str = "check the path"
) -> dict[str, Any]:
    """The fields and values of a YAML file; none of an empty one.

    Parameters
    ----------
    path : the file.
    of : what its fields are of, for the message.
    expected, do : where there is no such file.

    Raises
    ------
    UserError : the file cannot be read, is no YAML, or holds something else than fields.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(path, error.strerror or "no file", expected, do) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = path if line is None else f"{path}, line {line + 1}"
        problem = getattr(error, "problem", None) or "bytes that are not text"
        raise UserError(where, str(problem), "plain YAML", "mend the file") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        fields = f"fields of {of}" if of else "fields and values"
        raise UserError(path, type(content).__name__, fields, "mend the file")
    return content
