"""The benchmarks are scripts, not a package: their folder is where they find each other."""

import sys
from pathlib import Path

import ewaldflow

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
