"""A hundred exposures and streams with faults among them: an image is right, or an error tells."""

from __future__ import annotations

import random

import numpy as np
import pytest
from standins.faults import Faults
from standins.merlin import MerlinStandIn
from standins.serval import ServalStandIn

from ewaldflow.hardware import merlin, serval
from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.errors import InstrumentError
from ewaldflow.hardware.protocols import Camera

FAULTS = ["drop", "delay", "truncate", "shape", "length", "garbage", "close"]
SHAPE = (512, 512)
IMAGE = np.random.default_rng(1).poisson(20, SHAPE).astype(np.uint16)
PATIENCE = {"timeout_s": 0.1, "tries": 2}


def _opened(kind: str, faults: Faults) -> tuple[MerlinStandIn | ServalStandIn, Camera]:
    if kind == "merlin":
        server = MerlinStandIn(lambda _: IMAGE, faults).__enter__()
        ports = {"command_port": server.command_port, "data_port": server.data_port}
        options = merlin.Options.model_validate({"host": "127.0.0.1", **ports, **PATIENCE})
        return server, merlin.open_camera(options, WallClock())
    other = ServalStandIn(lambda _: IMAGE, faults).__enter__()
    told = {"host": "127.0.0.1", "receive_host": "127.0.0.1", "port": other.port, "frames": kind}
    return other, serval.open_camera(
        serval.Options.model_validate({**told, **PATIENCE}), WallClock()
    )


@pytest.mark.parametrize("kind", ["merlin", "tcp", "http"])
def test_no_wrong_image_gets_through(kind: str) -> None:
    rng = random.Random(7)
    faults = Faults(delay_s=0.15)
    server, camera = _opened(kind, faults)
    last, whole, said = -1, 0, []
    for _ in range(60):
        if rng.random() < 0.3:
            faults.plan[faults.sent + rng.randrange(3)] = rng.choice(FAULTS)
        try:
            if rng.random() < 0.5:
                taken = [camera.expose(rng.choice([0.001, 0.002]))]
            else:
                taken = list(camera.stream(0.001, rng.randrange(1, 6)))
        except InstrumentError as error:
            said.append(str(error))
            continue
        whole += 1
        for one in taken:
            np.testing.assert_array_equal(one.counts, IMAGE)
            assert one.number > last
            last = one.number
    camera.release()
    assert not server.acquiring
    server.__exit__(None, None, None)
    assert sum(faults.done.values()) >= 10
    assert 0 < len(said) <= sum(faults.done.values())
    assert whole == 60 - len(said)
    assert not any("\n" in one for one in said)
