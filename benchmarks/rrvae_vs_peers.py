"""Training speed beside atomai 0.8.1 (rVAE) and pyroVED 0.3.0 (iVAE).

The same 4080 patterns of 64 x 64 pixels, batch 20, two threads, one epoch each, in turn: rates by
the clock are of one machine in one state, CPU seconds are told as well. Each peer lives in an
environment of its own, made on the first run. Our front end is counted apart from its epochs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _environment import environment
from _table import Table, options, say, skip, work_folder

from ewaldflow.lib.cbed import simulate_graphene, with_dose
from ewaldflow.lib.rrvae.config import CoordinateConfig, HarmonicConfig
from ewaldflow.lib.rrvae.patterns import Patterns
from ewaldflow.lib.rrvae.preprocess import prepare
from ewaldflow.lib.rrvae.train import train

# mendeleev needs six without saying so
PEERS = {
    "atomai": ("atomai==0.8.1", "six", "torch==2.13.0"),
    "pyroved": ("pyroved==0.3.0", "torch==2.13.0"),
}
COUNT, THREADS, DOSE = 4080, 2, 1e5


def epoch_rate(patterns: Patterns, config: Any) -> tuple[float, float]:
    """Patterns per second and per CPU second of one epoch: of two epochs' looks the difference.

    Only the epochs are counted: a look's own time would be counted with it, so that it is made
    small by holding out few patterns.
    """
    stamps: list[tuple[float, float]] = []
    clock: Callable[..., Any] = lambda *_: stamps.append((time.perf_counter(), time.process_time()))  # noqa: E731
    ensemble = train(patterns, config, clock)
    learned = len(patterns) - int(ensemble.held_out.sum())
    gaps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(stamps)]
    wall, cpu = min(gaps)
    return learned / wall, learned / cpu


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--threads", type=int, default=THREADS, help="1: on a busy machine")
    parser.add_argument("--count", type=int, default=COUNT, help="patterns that peers are shown")
    chosen = parser.parse_args()
    if not torch.__version__.startswith("2.13"):
        return skip(f"torch {torch.__version__}, not 2.13")
    torch.set_num_threads(chosen.threads)
    table = Table(
        f"Training speed: {COUNT} patterns of 64 x 64, batch 20, {chosen.threads} threads"
    )
    scan = with_dose(simulate_graphene(), DOSE, 0)
    patterns = prepare(scan).select(np.arange(COUNT))
    few: dict[str, Any] = {"seeds": (0,), "batch": 20, "held_out": 0.005}
    rates = {
        "coordinate": epoch_rate(patterns, CoordinateConfig(epochs=3, look_every=1, **few)),
        "default": epoch_rate(patterns, HarmonicConfig(epochs=4, **few)),
    }
    peers: dict[str, tuple[float, float]] = {}
    if not (chosen.ours or chosen.quick):
        with work_folder(chosen.work) as folder:
            shown = patterns.data[: chosen.count] / np.abs(patterns.data).max()
            np.save(folder / "patterns.npy", shown)
            for peer in PEERS:
                try:
                    script = Path(__file__).with_name("_rrvae_peers.py")
                    told_in = folder / "out.json"
                    given = [script, peer, folder / "patterns.npy", chosen.threads, told_in]
                    command = [environment(peer, PEERS[peer]), *given]
                    say(f"{peer}: one epoch")
                    subprocess.run([str(word) for word in command], check=True)
                except subprocess.CalledProcessError as problem:
                    table.fail(f"{peer}", f"did not run: exit code {problem.returncode}")
                    continue
                told = json.loads(told_in.read_text())
                wall, cpu = (told["patterns"] / told[key] for key in ("wall_s", "cpu_s"))
                peers[peer] = wall, cpu
                table.tell(f"{peer}, patterns/s", f"{wall:.1f}", f"{cpu:.1f} per CPU s")
    for model, bar in (("coordinate", 15), ("default", 400)):
        wall, cpu = rates[model]
        table.tell(f"{model} model, patterns/s", f"{wall:.0f}", f"{cpu:.0f} per CPU s")
        for peer, (by_clock, by_cpu) in peers.items():
            beside = f"by CPU s {cpu / by_cpu:.0f}"
            table.check(f"{model} model over {peer}", wall / by_clock, at_least=bar, peer=beside)
    start = time.process_time()
    train(prepare(scan), HarmonicConfig(seeds=(0,)))
    table.check("default model, all of a training, CPU s", time.process_time() - start, at_most=90)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
