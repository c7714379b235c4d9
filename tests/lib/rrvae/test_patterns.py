import numpy as np
import pytest

from ewaldflow.lib.cbed import simulate_graphene, with_dose
from ewaldflow.lib.cbed.crystal import GRAPHENE_A
from ewaldflow.lib.rrvae.patterns import Patterns
from ewaldflow.lib.rrvae.preprocess import PreprocessConfig, prepare
from ewaldflow.lib.rrvae.repeats import repeats


def patterns(**changes):
    data = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    fields = {
        "data": data,
        "variance": np.full((1, 4, 5), 4, np.float32),
        "mask": mask,
        "scan_shape": (2, 3),
        "index": np.array([0, 2, 5]),
        "centre_px": (1.5, 2.0),
        "mean": np.zeros((4, 5)),
        "dose": 10.0,
    }
    return Patterns(**(fields | changes))


def test_weight_is_one_over_two_variances_and_nothing_where_masked():
    weight = patterns().weight
    assert weight.shape == (1, 4, 5)
    assert weight[0, 0, 0] == 1 / 8
    assert weight[0, 1, 2] == 0


def test_maps_leave_out_what_was_left_out():
    found = patterns().map_of(np.array([1, 2, 3]))
    assert np.array_equal(found, [[1, np.nan, 2], [np.nan, np.nan, 3]], equal_nan=True)
    assert patterns().map_of(np.zeros((3, 7))).shape == (2, 3, 7)
    with pytest.raises(ValueError, match="expected 3"):
        patterns().map_of(np.zeros(4))


def test_selection_keeps_places_and_variances():
    each = np.arange(60, dtype=np.float32).reshape(3, 4, 5) + 1
    found = patterns(variance=each).select(np.array([True, False, True]))
    assert found.index.tolist() == [0, 5]
    assert np.array_equal(found.variance, each[[0, 2]])
    assert patterns().select(np.array([1])).variance.shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mask", np.zeros((5, 4), bool)),
        ("variance", np.ones((2, 4, 5), np.float32)),
        ("variance", np.ones((1, 4, 4), np.float32)),
        ("index", np.arange(2)),
        ("mean", np.zeros((4, 4))),
    ],
)
def test_shapes_that_do_not_fit(name, value):
    with pytest.raises(ValueError, match=name):
        patterns(**{name: value})


def test_copied_frames_and_lattice_vectors_are_repeats():
    counted = with_dose(simulate_graphene(scan_shape=(6, 7)), 1e5, 0)
    frames = np.array(counted.frames)
    assert len(set(repeats(prepare(counted, PreprocessConfig())).tolist())) == 42
    frames[5], frames[:, 6] = frames[0], frames[:, 0]  # as in a scan whose ends are repeated
    label = repeats(prepare(counted.with_(frames=frames), PreprocessConfig())).reshape(6, 7)
    assert np.array_equal(label[5], label[0])
    assert np.array_equal(label[:, 6], label[:, 0])
    assert len(np.unique(label)) == 5 * 6
    step = (3**0.5 * GRAPHENE_A / 6, GRAPHENE_A / 4)
    periodic = simulate_graphene(scan_shape=(9, 8), scan_step_A=step, start_A=(0.1, 0.03))
    label = repeats(prepare(periodic, PreprocessConfig(pseudo_dose=1e6))).reshape(9, 8)
    assert np.array_equal(label[:3], label[6:])
    assert np.array_equal(label[:, :4], label[:, 4:])
    assert label[0, 0] == label[3, 2]  # the primitive vector, half of both
    assert len(np.unique(label)) == 12
