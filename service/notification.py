"""What an instrument says: where a session lies and which of its series are finished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..lib.errors import UserError
from ..lib.series.announced import AnnouncedSeries, path_inside

_SHA256 = r"^[0-9a-f]{64}$"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metadata(_Strict):
    """What the operator adds: names of an instrument and of a sample."""

    instrument: Annotated[str | None, Field(max_length=200)] = None
    sample: Annotated[str | None, Field(max_length=200)] = None


class Notification(_Strict):
    """A message of `deploy/instrument/notify.py`.

    Attributes
    ----------
    version : of this form.
    id : names the message; the same one is taken once.
    root : name of the folder that instrument and server share.
    session : its folder, below the root.
    series : finished since, or all of them where the session is closed.
    closed : whether the session is over.
    metadata : of the session.
    """

    version: Literal[1]
    id: Annotated[str, Field(pattern=_SHA256)]
    root: Annotated[str, Field(max_length=100)]
    session: Annotated[str, Field(min_length=1, max_length=500)]
    series: Annotated[tuple[AnnouncedSeries, ...], Field(min_length=1, max_length=10_000)]
    closed: bool = False
    metadata: Metadata = Metadata()

    _path = field_validator("session")(path_inside)

    def folder(self, roots: dict[str, Path]) -> Path:
        """The session's folder on this machine.

        Raises
        ------
        UserError : no such root, or a link that leads out of it.
        """
        if self.root not in roots:
            known = ", ".join(sorted(roots))
            raise UserError("root", f"'{self.root}'", f"one of {known}", "mend --root-name")
        root = roots[self.root].resolve()
        folder = (root / self.session).resolve()
        if root not in folder.parents:
            raise UserError(
                "session", f"{self.session}, which leads out of root {self.root}",
                "a folder below it", "send the session's own folder",
            )  # fmt: skip
        return folder
