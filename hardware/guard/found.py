"""The settings a session found, kept on disk until they are restored."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from ...lib.errors import UserError
from .lock import state_folder
from .state import OpticalState


class FoundFile:
    """Settings found on one instrument."""

    def __init__(self, instrument: str) -> None:
        self.path = state_folder() / f"{instrument}.found.json"

    def read(self) -> tuple[OpticalState, ...]:
        """What an unfinished session found; empty when the last one ended well.

        Raises
        ------
        UserError : the file is not readable as what was written.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return tuple(OpticalState.from_dict(one) for one in content)
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                self.path,
                f"{type(error).__name__}: {error}",
                "the settings that an unfinished session found",
                "bring the lenses and deflectors back by hand, then remove the file",
            ) from None

    def write(self, states: Sequence[OpticalState]) -> None:
        """Keep them; the file is whole or not there."""
        draft = self.path.with_suffix(f".{os.getpid()}.tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump([state.as_dict() for state in states], file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def remove(self) -> None:
        """They were restored."""
        self.path.unlink(missing_ok=True)
