"""Units, modes, speeds and capabilities on a bare JEOL, and on what an FEI answers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from standins.instamatic import BareJeol, TemServer, opened, serving

from ewaldflow.hardware.errors import InstrumentError, LimitExceeded, Unsupported
from ewaldflow.hardware.instamatic import Options
from ewaldflow.hardware.protocols import Capability, Microscope

SPEEDS = {1: 0.83, 2: 1.7, 12: 10.0}


def test_a_jeol_has_it_all(microscope: Microscope, server: TemServer) -> None:
    assert microscope.capabilities == set(Capability) - {Capability.ROTATION_SPEED}
    with_speeds = opened(server.port, rotation_speeds=SPEEDS)
    assert with_speeds.capabilities == set(Capability)


def test_looking_changes_nothing(server: TemServer, jeol: BareJeol) -> None:
    opened(server.port, rotation_speeds=SPEEDS, voltage_kV=200)
    told = {name for name, _, _ in jeol.calls}
    assert not any(name.startswith("set") for name in told)
    assert "getMagnificationRanges" not in told  # which steps through them all on a real JEOL


def test_a_moving_stage_is_not_stopped_by_looking(server: TemServer, jeol: BareJeol) -> None:
    jeol.isStageMoving = lambda: 1  # type: ignore[method-assign]
    assert Capability.STAGE_STOP in opened(server.port).capabilities
    assert "stopStage" not in {name for name, _, _ in jeol.calls}


def test_what_is_lacking(server: TemServer, jeol: BareJeol) -> None:
    jeol.goniotool = False

    def absent() -> None:
        raise NotImplementedError

    jeol.getScreenPosition = absent  # type: ignore[method-assign, assignment]
    one = opened(server.port, lacking=["stage_stop", "beta"], rotation_speeds=SPEEDS)
    assert one.capabilities == set(Capability) - {
        Capability.SCREEN,
        Capability.STAGE_STOP,
        Capability.BETA,
        Capability.ROTATION_SPEED,
    }
    for use in (
        one.stage.stop,
        one.screen_is_down,
        lambda: one.stage.start_move(beta_deg=1.0),
        lambda: one.stage.start_move(alpha_deg=1.0, speed_deg_per_s=1.0),
    ):
        with pytest.raises(Unsupported) as refused:
            use()
        assert "\n" not in str(refused.value)


def test_raw_and_nominal(microscope: Microscope, jeol: BareJeol) -> None:
    shift = microscope.deflectors["beam_shift"]
    assert shift.get() == (30000 - 32768, 31000 - 32768)
    shift.set((100.4, -200.6))
    assert jeol.pairs["BeamShift"] == [32868, 32567]
    assert all(isinstance(one, int) for one in jeol.pairs["BeamShift"])
    assert shift.limits == (-32768, 32767)
    tilt = microscope.deflectors["beam_tilt"]
    tilt.set((0.02, -0.0201))
    assert jeol.pairs["BeamTilt"] == [32778, 32758]
    assert tilt.get() == pytest.approx((0.02, -0.02))
    microscope.lenses["brightness"].set(1.0)
    assert jeol.brightness == 65535
    microscope.set_mode("diffraction")
    microscope.lenses["diffraction_focus"].set(150.0)
    assert jeol.focus == 32768 + 1500


def test_scales_and_limits_are_those_of_the_options(server: TemServer, jeol: BareJeol) -> None:
    one = opened(server.port, beam_shift={"step": 2.5, "limits": [-5000, 4000]})
    shift = one.deflectors["beam_shift"]
    assert (shift.step, shift.limits) == (2.5, (-5000, 4000))
    shift.set((25.0, 4000.0))
    assert jeol.pairs["BeamShift"] == [32778, 32768 + 1600]
    with pytest.raises(LimitExceeded):
        shift.set((0.0, 4002.0))
    with pytest.raises(LimitExceeded, match="mend limits"):
        opened(server.port, beam_shift={"step": 0.1, "limits": [-5000, 5000]})


def test_stage_in_nm_without_waiting(microscope: Microscope, jeol: BareJeol) -> None:
    where = microscope.stage.position()
    assert (where.x_um, where.y_um, where.z_um, where.alpha_deg) == (1.0, 2.0, 3.0, 4.5)
    microscope.stage.start_move(x_um=-12.3456, alpha_deg=-30.25)
    assert jeol.calls[-1] == ("setStagePosition", [], {"x": -12346, "a": -30.25, "wait": False})
    microscope.stage.start_move()
    assert jeol.calls[-1][2]["x"] == -12346  # nothing was sent
    with pytest.raises(LimitExceeded):
        microscope.stage.start_move(x_um=float("nan"))


def test_the_first_status_is_not_believed(server: TemServer) -> None:
    stage = opened(server.port, first_status_s=0.3).stage
    assert not stage.is_moving()
    stage.start_move(x_um=1.0)
    assert stage.is_moving()
    stage.stop()
    assert not stage.is_moving()


def test_speeds(server: TemServer, jeol: BareJeol) -> None:
    one = opened(server.port, rotation_speeds=SPEEDS)
    one.stage.start_move(alpha_deg=1.0, speed_deg_per_s=0.9)
    assert jeol.speed == 1
    one.stage.start_move(x_um=5.0)
    assert jeol.speed == 1  # which concerns tilting alone
    one.stage.start_move(alpha_deg=2.0)
    assert jeol.speed == 12
    set_so_far = sum(name == "setRotationSpeed" for name, _, _ in jeol.calls)
    one.stage.start_move(alpha_deg=3.0)
    assert sum(name == "setRotationSpeed" for name, _, _ in jeol.calls) == set_so_far
    for wrong in (1.2, 0.5, 20.0, 0.0, -1.0, float("nan")):
        with pytest.raises(LimitExceeded, match=r"one of 0\.83, 1\.7, 10"):
            one.stage.start_move(alpha_deg=4.0, speed_deg_per_s=wrong)
    assert jeol.stage[3] == 3.0
    one.stage.start_move(alpha_deg=1.0, speed_deg_per_s=1.7)
    one.release()
    assert jeol.speed == 12  # as others expect it


def test_speeds_between(server: TemServer, jeol: BareJeol) -> None:
    one = opened(server.port, rotation_speeds={1: 1.0, 2: 3.0, 12: 13.0}, any_speed=True)
    one.stage.start_move(alpha_deg=1.0, speed_deg_per_s=2.0)
    assert jeol.speed == pytest.approx(1.5)
    with pytest.raises(LimitExceeded, match="1 to 13 deg/s"):
        one.stage.start_move(alpha_deg=1.0, speed_deg_per_s=0.5)


def test_modes(microscope: Microscope, jeol: BareJeol) -> None:
    for name in ("mag1", "samag", "lowmag"):
        jeol.mode = name
        assert microscope.mode() == "imaging"
    microscope.set_mode("diffraction")
    assert jeol.mode == "diff"
    assert microscope.camera_length_mm() == 300
    with pytest.raises(InstrumentError, match="switch to imaging"):
        microscope.magnification()
    with pytest.raises(InstrumentError, match="switch to imaging"):
        microscope.set_magnification(500)  # there is a camera length of that number
    assert jeol.shown["diff"] == 300
    microscope.set_camera_length_mm(500)
    microscope.set_mode("imaging")
    assert jeol.mode == "mag1"
    microscope.set_magnification(5000)
    assert jeol.shown == {"mag1": 5000, "diff": 500}


def test_through_samag_against_hysteresis(server: TemServer, jeol: BareJeol) -> None:
    one = opened(server.port, through_samag_s=0.0)
    one.set_mode("diffraction")
    one.set_mode("diffraction")
    set_to = [args[0] for name, args, _ in jeol.calls if name == "setFunctionMode"]
    assert set_to == ["samag", "diff", "diff"]


def test_camera_lengths_in_cm(server: TemServer, jeol: BareJeol) -> None:
    jeol.mode = "diff"
    one = opened(server.port, camera_length_unit_mm=10)
    assert one.camera_length_mm() == 3000
    one.set_camera_length_mm(5000)
    assert jeol.shown["diff"] == 500


def test_a_panel_that_shows_another_magnification(server: TemServer, jeol: BareJeol) -> None:
    jeol.setMagnification = lambda value: None  # type: ignore[method-assign]
    with pytest.raises(InstrumentError, match="2500 on the panel"):
        opened(server.port).set_magnification(5000)


def test_other_microscopes_are_refused(server: TemServer, jeol: BareJeol) -> None:
    with pytest.raises(InstrumentError, match="200 kV"):
        opened(server.port, voltage_kV=300)
    with pytest.raises(InstrumentError, match="fei, and a microscope in mode mag1"):
        opened(server.port, interface="fei")
    jeol.mode = "SA"
    with pytest.raises(InstrumentError, match="jeol, and a microscope in mode SA"):
        opened(server.port)


class BareFei(BareJeol):
    """As instamatic's FEI interface answers."""

    def __init__(self) -> None:
        super().__init__()
        self.mode = "SA"
        self.pairs = {name: [0.25, -0.5] for name in self.pairs}
        self.brightness, self.focus = 25.0, 2e-6

    def getDiffFocus(self) -> float:
        return self.focus

    def getScreenPosition(self) -> str:
        raise NotImplementedError

    def stopStage(self) -> None:
        raise NotImplementedError

    def setStagePosition(  # type: ignore[override]
        self, x=None, y=None, z=None, a=None, b=None, *, speed=1.0, wait=True
    ) -> None:
        self.speed = speed
        super().setStagePosition(x, y, z, a, b)


def test_what_an_fei_can_do() -> None:
    fei = BareFei()
    with serving(fei) as server:
        one = opened(
            server.port, interface="fei", rotation_speeds={0.01: 0.297, 1.0: 21.14}, any_speed=True
        )
        assert one.capabilities == {
            Capability.BEAM_SHIFT,
            Capability.BEAM_TILT,
            Capability.IMAGE_SHIFT_1,
            Capability.DIFFRACTION_SHIFT,
            Capability.BRIGHTNESS,
            Capability.DIFFRACTION_FOCUS,
            Capability.BETA,
            Capability.BEAM_BLANK,
            Capability.ROTATION_SPEED,
        }
        shift = one.deflectors["beam_shift"]
        assert shift.get() == (8192.0, -16384.0)
        shift.set((32768.0, -1.0))
        assert fei.pairs["BeamShift"] == [1.0, -1 / 32768]
        assert one.lenses["brightness"].get() == pytest.approx(0.25)
        assert one.lenses["diffraction_focus"].get() == pytest.approx(2.0)
        one.lenses["diffraction_focus"].set(-5.0)
        assert fei.focus == pytest.approx(-5e-6)
        one.stage.start_move(alpha_deg=10.0, speed_deg_per_s=21.14)
        assert fei.speed == 1.0
        for use in (one.stage.stop, lambda: one.set_mode("diffraction"), one.screen_is_down):
            with pytest.raises(Unsupported):
                use()


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"interface": "hitachi"},
        {"beam_shift": {"step": 0}},
        {"beam_shift": {"step": 1, "limits": [5, -5]}},
        {"lacking": ["wings"]},
        {"rotation_speeds": {"-1": 1}},
        {"interface": "fei", "through_samag_s": 0.5},
        {"unknown": 1},
    ],
)
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)
