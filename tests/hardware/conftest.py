"""Stand-in servers are shared by the tests of several adapters: `standins` is found from here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
