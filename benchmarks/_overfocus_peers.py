"""Run by the python of a peer's environment: its superposition, its search, its traced rays.

``_overfocus_peers.py libertem|temgym-core JOBS.json OUT.json``. The published code is called where
it is installed. Where it is not, LiberTEM runs a function of ours after its description: two
nearest-neighbour projections of every frame, the superposition and the partly transformed sum.
"""

import json
import resource
import sys
import time

import numpy as np


def cpu_s():
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def named(parameters):
    """Our parameters by the published code's names."""
    names = {
        "overfocus": "overfocus_m", "scan_pixel_size": "scan_pixel_size_m",
        "camera_length": "camera_length_m", "detector_pixel_size": "detector_pixel_size_m",
        "cy": "cy", "cx": "cx", "scan_rotation": "scan_rotation_deg", "flip_y": "flip_y",
    }  # fmt: skip
    return {"semiconv": 0.01, **{theirs: parameters[ours] for theirs, ours in names.items()}}


def published():
    """(UDF of parameters, loss of parameters, minimiser) of the published code."""
    from microscope_calibration.udf.stem_overfocus import OverfocusUDF
    from microscope_calibration.util.optimize import make_overfocus_loss_function, optimize

    def loss_of(start, context, data, told):
        return make_overfocus_loss_function(
            params=start, ctx=context, dataset=data, overfocus_udf=OverfocusUDF(start),
            callback=lambda arguments, tried, results, loss: told.append(float(loss)),
        )  # fmt: skip

    return OverfocusUDF, loss_of, lambda loss: optimize(loss=loss)


def described():
    """The same after the description, on LiberTEM."""
    import numba
    from libertem.udf import UDF
    from scipy.optimize import shgo
    from skimage.measure import blur_effect

    @numba.njit
    def project(frame, a, centre, point, out):
        for row in range(out.shape[0]):
            for column in range(out.shape[1]):
                y = centre[0] + a[0, 0] * (row - point[0]) + a[0, 1] * (column - point[1])
                x = centre[1] + a[1, 0] * (row - point[0]) + a[1, 1] * (column - point[1])
                i, j = int(np.round(y)), int(np.round(x))
                if 0 <= i < frame.shape[0] and 0 <= j < frame.shape[1]:
                    out[row, column] += frame[i, j]

    def matrix(p):
        t = np.deg2rad(p["scan_rotation"])
        turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        scale = p["scan_pixel_size"] * (p["camera_length"] + p["overfocus"])
        scale /= p["detector_pixel_size"] * p["overfocus"]
        return scale * np.diag([-1.0 if p["flip_y"] else 1.0, 1.0]) @ turn

    class Described(UDF):
        def __init__(self, overfocus_params):
            super().__init__(overfocus_params=overfocus_params)

        def get_result_buffers(self):
            shape = tuple(self.meta.dataset_shape.nav)
            return {
                "point": self.buffer(kind="nav", dtype=np.float32),
                "shifted_sum": self.buffer(kind="single", dtype=np.float32, extra_shape=shape),
                "sum": self.buffer(kind="single", dtype=np.float32, extra_shape=shape),
            }

        def process_frame(self, frame):
            p = self.params.overfocus_params
            a, centre = matrix(p), np.array([p["cy"], p["cx"]])
            shape = tuple(self.meta.dataset_shape.nav)
            point = np.array(self.meta.coordinates[0])
            project(frame, a, centre, point, self.results.shifted_sum)
            project(frame, a, centre, np.array(shape) / 2, self.results.sum)
            self.results.point[:] = frame[round(p["cy"]), round(p["cx"])]

        def merge(self, dest, src):
            dest.point[:] = src.point
            dest.shifted_sum[:] += src.shifted_sum
            dest.sum[:] += src.sum

    def loss_of(start, context, data, told):
        def mapped(arguments):
            turn, stretch = np.asarray(arguments) / 10
            return {
                **start,
                "scan_rotation": start["scan_rotation"] + 10 * turn,
                "overfocus": start["overfocus"] * (1 + 0.25 * stretch),
            }

        def loss(arguments):
            image = context.run_udf(data, Described(mapped(arguments)))["shifted_sum"].data
            told.append(float(blur_effect(image)))
            return told[-1]

        return mapped, loss

    return (
        Described,
        loss_of,
        lambda loss: shgo(loss, [(-10, 10)] * 2, minimizer_kwargs={"method": "COBYLA"}),
    )


def libertem(jobs):
    from libertem.api import Context

    try:
        (udf_of, loss_of, minimise), code = published(), "its published UDF"
    except ImportError:
        (udf_of, loss_of, minimise), code = described(), "a UDF after its description"
    out = {"code": code, "data": []}
    context = Context.make_with("inline")
    for job in jobs:
        data = context.load(
            "npy", path=job["path"], nav_shape=job["scan_shape"], sig_shape=job["shape"]
        )
        truth = named(job["truth"])
        passes = []
        for _ in range(4):  # the first compiles
            cpu, wall = cpu_s(), time.perf_counter()
            result = context.run_udf(data, udf_of(truth))
            passes.append((cpu_s() - cpu, time.perf_counter() - wall))
        np.save(job["path"].replace(".npy", ".peer.npy"), result["shifted_sum"].data)
        searches = []
        for start in job["starts"]:
            told = []
            mapped, loss = loss_of(named(start), context, data, told)
            cpu, wall = cpu_s(), time.perf_counter()
            found = minimise(loss)
            end = mapped(found.x)
            searches.append({
                "cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - wall,
                "evaluations": len(told), "loss": float(found.fun),
                "rotation_deg": float(end["scan_rotation"]), "overfocus_m": float(end["overfocus"]),
            })  # fmt: skip
        out["data"].append({"passes": passes[1:], "searches": searches})
    return out


def temgym_core(jobs):
    """Scan-to-detector and descan matrices by rays of temgym-core, in px."""
    from temgym_core.components import DescanError, Descanner, Detector, Plane, ScanGrid, Scanner
    from temgym_core.ray import Ray
    from temgym_core.run import run_to_end

    out = []
    for p in jobs:
        o, length = p["overfocus_m"], p["camera_length_m"]
        scan = ScanGrid(
            z=o, pixel_size=(p["scan_pixel_size_m"],) * 2, shape=(9, 9),
            rotation=p["scan_clockwise_deg"],
        )  # fmt: skip
        detector = Detector(
            z=o + length, pixel_size=(p["detector_pixel_size_m"],) * 2, shape=(9, 9),
            flip_y=p["flip_y"],
        )  # fmt: skip
        to_metres = [np.array(grid.pixels_to_metres_mat)[:2, :2] for grid in (scan, detector)]
        error = to_metres[1] @ np.array(p["descan_px"]) @ np.linalg.inv(to_metres[0])
        descan = DescanError(
            pyo_pyi=error[0, 0], pyo_pxi=error[0, 1], pxo_pyi=error[1, 0], pxo_pxi=error[1, 1]
        )
        known, seen = [], []
        for point in ((0, 0), (3, -2), (-4, 1)):
            at_y, at_x = to_metres[0] @ point
            for slope in ((0, 0), (1e-3, 0), (0, 1e-3), (-2e-3, 1e-3)):
                ray = Ray(x=0.0, y=0.0, dx=slope[1], dy=slope[0], z=0.0, pathlength=0.0)
                above = [Scanner(z=0.0, scan_pos_x=at_x, scan_pos_y=at_y), Plane(z=o)]
                ray = run_to_end(ray, above)
                specimen = np.linalg.inv(to_metres[0]) @ (float(ray.y), float(ray.x))
                below = Descanner(z=o, scan_pos_x=at_x, scan_pos_y=at_y, descan_error=descan)
                ray = run_to_end(ray, [below, detector])
                seen.append(np.linalg.inv(to_metres[1]) @ (float(ray.y), float(ray.x)))
                known.append((*specimen, *point))
        fitted = np.linalg.lstsq(np.array(known), np.array(seen), rcond=None)[0].T
        a = fitted[:, :2]
        out.append({
            "scan_to_detector": a.tolist(), "descan": (fitted[:, 2:] + a).tolist()
        })  # fmt: skip
    return out


def main():
    peer, jobs, out = sys.argv[1:]
    with open(jobs) as file:
        asked = json.load(file)
    result = {"libertem": libertem, "temgym-core": temgym_core}[peer](asked)
    with open(out, "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
