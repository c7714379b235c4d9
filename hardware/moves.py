"""Waiting for the stage: polling, with a time limit that follows from the way to go."""

from __future__ import annotations

from .errors import StageHung
from .protocols import Clock, Stage, StagePosition

POLL_S = 0.1
# No stage is slower than this where no speed was asked for.
SLOWEST_DEG_PER_S, SLOWEST_UM_PER_S, GRACE_S = 0.5, 1.0, 10.0


def move(
    stage: Stage,
    clock: Clock,
    *,
    x_um: float | None = None,
    y_um: float | None = None,
    z_um: float | None = None,
    alpha_deg: float | None = None,
    beta_deg: float | None = None,
    speed_deg_per_s: float | None = None,
    timeout_s: float | None = None,
) -> StagePosition:
    """Move and wait; axes left None stay where they are.

    Parameters
    ----------
    timeout_s : None takes what the slowest stage would need for the way, and ten seconds.

    Returns
    -------
    The read-out at rest.

    Raises
    ------
    StageHung : still moving after `timeout_s`; the stage was told to stop.
    """
    before = stage.position()
    if timeout_s is None:
        timeout_s = GRACE_S + _longest_s(
            before,
            StagePosition(
                before.x_um if x_um is None else x_um,
                before.y_um if y_um is None else y_um,
                before.z_um if z_um is None else z_um,
                before.alpha_deg if alpha_deg is None else alpha_deg,
                before.beta_deg if beta_deg is None else beta_deg,
            ),
            speed_deg_per_s,
        )
    stage.start_move(
        x_um=x_um,
        y_um=y_um,
        z_um=z_um,
        alpha_deg=alpha_deg,
        beta_deg=beta_deg,
        speed_deg_per_s=speed_deg_per_s,
    )
    return wait_until_still(stage, clock, timeout_s)


def wait_until_still(stage: Stage, clock: Clock, timeout_s: float) -> StagePosition:
    """Poll until the stage rests. Raises `StageHung`, after a stop, if it does not in time."""
    began = clock.now()
    while stage.is_moving():
        if clock.now() - began > timeout_s:
            stage.stop()
            raise StageHung(
                "stage",
                f"still moving after {timeout_s:.0f} s, at {_text(stage.position())}",
                "arrival",
                "look for an obstacle or a hung goniometer before going on",
            )
        clock.sleep(POLL_S)
    return stage.position()


def _longest_s(a: StagePosition, b: StagePosition, speed_deg_per_s: float | None) -> float:
    way_um = abs(a.x_um - b.x_um) + abs(a.y_um - b.y_um) + abs(a.z_um - b.z_um)
    speed = SLOWEST_DEG_PER_S if speed_deg_per_s is None else 0.5 * speed_deg_per_s
    return (
        way_um / SLOWEST_UM_PER_S
        + abs(a.alpha_deg - b.alpha_deg) / speed
        + abs(a.beta_deg - b.beta_deg) / SLOWEST_DEG_PER_S
    )


def _text(p: StagePosition) -> str:
    return f"x {p.x_um:.1f}, y {p.y_um:.1f}, z {p.z_um:.1f} um, alpha {p.alpha_deg:.2f} deg"
