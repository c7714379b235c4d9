"""Run by the python of a peer's environment: patterns per second of one epoch of training.

``_rrvae_peers.py PEER PATTERNS.npy THREADS OUT.json``. The peers' own training loops at batch 20
with the sizes of the paper; what they do before the loop is not counted.
"""

import json
import os
import sys
import tempfile
import time
from unittest.mock import MagicMock

os.environ["MPLBACKEND"] = "Agg"


def without_vision():
    """Torchvision's wheels want operators that a torch for CPUs lacks; it only draws here."""
    for name in (
        "torchvision",
        "torchvision.utils",
        "torchvision.models",
        "torchvision.transforms",
    ):
        sys.modules[name] = MagicMock()


def atomai_epoch(patterns):
    import atomai

    model = atomai.models.rVAE(
        patterns.shape[1:], latent_dim=2, numlayers_encoder=2, numhidden_encoder=128,
        numlayers_decoder=2, numhidden_decoder=128, skip=False, translation=False, seed=0,
    )  # fmt: skip
    start = time.perf_counter(), time.process_time()
    model.fit(patterns, training_cycles=1, batch_size=20, loss="mse")
    return start


def pyroved_epoch(patterns):
    import pyroved
    import torch

    data = torch.from_numpy(patterns)
    loader = pyroved.utils.init_dataloader(data, batch_size=20)
    model = pyroved.models.iVAE(
        patterns.shape[1:], latent_dim=2, invariances=["r"], hidden_dim_e=[128, 128],
        hidden_dim_d=[128, 128], sampler_d="gaussian", seed=1, device="cpu",
    )  # fmt: skip
    trainer = pyroved.trainers.SVItrainer(model, lr=1e-4, device="cpu")
    start = time.perf_counter(), time.process_time()
    trainer.step(loader)
    return start


def main():
    peer, path, threads, out = sys.argv[1:]
    import numpy as np
    import torch

    torch.set_num_threads(int(threads))
    without_vision()
    patterns = np.load(path)
    os.chdir(tempfile.mkdtemp())  # they leave checkpoints where they run
    start = {"atomai": atomai_epoch, "pyroved": pyroved_epoch}[peer](patterns)
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    with open(out, "w") as file:
        json.dump({"wall_s": wall, "cpu_s": cpu, "patterns": len(patterns)}, file)


if __name__ == "__main__":
    main()
