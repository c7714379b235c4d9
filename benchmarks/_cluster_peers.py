"""Run by the python of a peer's environment: its clusters of XSCALE.LP and cells.yaml files.

``_cluster_peers.py PEER JOBS.json OUT.json``. What is called is what the peer's own commands call
between reading the file and writing folders; where a person would click, its proposal is taken.
"""

import contextlib
import io
import json
import os
import sys
import time

os.environ["MPLBACKEND"] = "Agg"
os.environ["QT_QPA_PLATFORM"] = "offscreen"


def edtools_intensities(path):
    """Clusters and the number of data sets it knows of."""
    from edtools import cluster
    from scipy.cluster.hierarchy import linkage

    read = cluster.parse_xscale_lp_initial(path)
    tree = linkage(cluster.get_condensed_distance_matrix(read.correlation_matrix), method="average")
    cut = cluster.distance_from_dendrogram(tree)
    found = cluster.get_clusters(tree, distance=cut, fns=read.filenames)
    return [[int(i) - 1 for i in one["clust"]] for one in found.values()]


def edtools_cells(path, **options):
    import numpy as np
    import yaml
    from edtools import find_cell

    with open(path) as file:
        records = yaml.safe_load(file)
    cells = find_cell.put_in_order(np.array([one["raw_unit_cell"] for one in records]))
    found = find_cell.cluster_cell(cells, **options)
    return [[int(i) for i in one] for one in found.values()]


def autolei_intensities(path):
    from autolei.src.xds_cluster import parse_xscale_lp
    from autolei.workflows.clustering import cluster_members, correlation_linkage

    matrix = parse_xscale_lp(path).correlation_matrix
    # where its window puts the line at first
    cut = round(0.7 * float(max(correlation_linkage(matrix)[:, 2])), 4)
    return [list(map(int, one)) for one in cluster_members(matrix, cut)]


def autolei_cells(path):
    from autolei.src import xds_cluster
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    # it takes cells from what its own lattice analysis left, not from cells.yaml
    with open(path.replace("cells.yaml", "cells.json")) as file:
        cells = json.load(file)
    distances = xds_cluster.calculate_distance_matrix(
        cells, xds_cluster.unit_cell_distance_procrustes, parallel=False
    )
    cut = xds_cluster.ClusterConfiguration.from_user_settings().cell_distance
    tree = linkage(squareform(distances, checks=False), method="average")
    labels = fcluster(tree, t=cut, criterion="distance")
    return [[i for i, one in enumerate(labels) if one == label] for label in sorted(set(labels))]


WAYS = {
    "edtools": {
        "intensities": edtools_intensities,
        "cells": edtools_cells,
        "cells, radians": lambda path: edtools_cells(path, use_radian=True),
        "cells, lcv": lambda path: edtools_cells(path, metric="lcv"),
    },
    "autolei": {"intensities": autolei_intensities, "cells": autolei_cells},
}


def main():
    peer, jobs, out = sys.argv[1:]
    with open(jobs) as file:
        asked = json.load(file)
    results = []
    for kind, path in asked:
        for way, work in WAYS[peer].items():
            if way.split(",")[0] != kind:
                continue
            start = time.process_time()
            clusters, error = None, ""
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    clusters = work(path)
            except (Exception, SystemExit) as problem:
                error = f"{type(problem).__name__}: {problem}"
                if type(problem).__name__.startswith("Workflow"):
                    error = f"refused: {problem}"  # its own words, no crash
            results.append(
                {"path": path, "way": way, "clusters": clusters, "error": error,
                 "cpu_s": time.process_time() - start}
            )  # fmt: skip
    with open(out, "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
