"""The one way to fail: a single line a person can act on."""

from __future__ import annotations


class UserError(Exception):
    """An error the user can mend: names the file or field, what was found, expected, and to do.

    The command line prints it as one line and exits with code 2; flows record it
    against the series it belongs to and go on with the others.

    Parameters
    ----------
    where : the file, field or option that is wrong.
    found : what stands there.
    expected : what should stand there.
    do : what to do about it.
    """

    def __init__(self, where: object, found: str, expected: str, do: str) -> None:
        self.where, self.found, self.expected, self.do = str(where), found, expected, do
        super().__init__(where, found, expected, do)

    def __str__(self) -> str:
        text = f"{self.where}: found {self.found}, expected {self.expected}; {self.do}"
        return " ".join(text.split())
