"""That a session is made once, and made anew when what it is made of changes."""

import pickle
from dataclasses import replace

import _session
import numpy as np

from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.simulation.session import session_plan


def test_what_was_made_is_read(tmp_path):
    (plan,) = session_plan(1, 1, junk=0.0, ranges_deg=(5, 5))
    path = _session.path_of(plan, ReductionConfig(), tmp_path)
    _session._make(plan, ReductionConfig(), path)
    written = path.stat().st_mtime_ns
    (one,) = _session.reduced_session([plan], tmp_path)
    assert path.stat().st_mtime_ns == written
    assert one.plan == plan
    assert one.reduction is not None
    assert one.reduction.series == plan.name
    assert one.cpu_s > 0
    assert [lattice.name for lattice in one.truth.lattices] == list(plan.phases)
    # frames are not kept, but come back
    assert path.stat().st_size < 5_000_000
    assert len(_session.series_of(plan)) == plan.n_frames
    assert isinstance(pickle.loads(path.read_bytes()), _session.ReducedSeries)


def test_another_plan_or_choice_is_made_anew(tmp_path):
    (plan,) = session_plan(1, 1)
    config = ReductionConfig()
    paths = {
        _session.path_of(plan, config, tmp_path),
        _session.path_of(replace(plan, dose=2 * plan.dose), config, tmp_path),
        _session.path_of(plan, config.model_copy(update={"d_min_A": 1.0}), tmp_path),
    }
    assert len(paths) == 3
    assert _session.path_of(plan, ReductionConfig(), tmp_path) in paths
    assert np.all([path.parent == tmp_path for path in paths])
