import numpy as np
import pytest

from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.pairwise_of_xscale import pairwise_of_xscale
from ewaldflow.lib.xds.xscale import read_xscale

HEAD = """\
 ***** XSCALE ***** (VERSION Jan 10, 2022  BUILT=20220220)   1-Aug-2022

 DATA    MEAN       REFLECTIONS        INPUT FILE NAME
 SET# INTENSITY  ACCEPTED REJECTED
   1  0.3010E+02     3938      0  a b/XDS_ASCII.HKL
   2  0.1368E+02     2205      0  b/XDS_ASCII.HKL
   3  0.9168E+02     1453      0  c/XDS_ASCII.HKL
   4  0.4279E+02     1931      0  d/XDS_ASCII.HKL

"""
TABLE = """\
      CORRELATIONS BETWEEN INPUT DATA SETS AFTER CORRECTIONS

 DATA SETS  NUMBER OF COMMON  CORRELATION   RATIO OF COMMON   B-FACTOR
  #i   #j     REFLECTIONS     BETWEEN i,j  INTENSITIES (i/j)  BETWEEN i,j

    1    2         119           0.936            3.1896         0.1394
    1    3          12           0.980            0.5337        -0.4854
    2    3         164          -0.145            0.1982        -0.5975

"""


def test_the_table_becomes_a_matrix_and_absent_pairs_stay_absent(tmp_path):
    (tmp_path / "XSCALE.LP").write_text(HEAD + TABLE)
    found = pairwise_of_xscale(read_xscale(tmp_path / "XSCALE.LP"))
    assert found.names[0] == "a b/XDS_ASCII.HKL"
    assert len(found) == 4  # the last shares nothing, and is there
    assert found.cc[0, 1] == found.cc[1, 0] == 0.936
    assert found.cc[1, 2] == -0.145
    assert np.isnan(found.cc[0, 2])  # 12 reflections
    assert np.isnan(found.cc[3, :3]).all()
    assert np.diag(found.n_common).tolist() == [3938, 2205, 1453, 1931]
    fewer = pairwise_of_xscale(read_xscale(tmp_path / "XSCALE.LP"), min_common=10)
    assert fewer.cc[0, 2] == 0.980
    clusters = cluster(found)
    assert {u.index for u in clusters.unassigned} == {2, 3}
    assert clusters.members == ((0, 1),)


def test_a_log_without_inputs_is_refused(tmp_path):
    (tmp_path / "XSCALE.LP").write_text(HEAD.split(" DATA")[0])
    with pytest.raises(ValueError, match="no inputs"):
        pairwise_of_xscale(read_xscale(tmp_path / "XSCALE.LP"))
