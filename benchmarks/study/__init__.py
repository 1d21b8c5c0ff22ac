"""The study: what property supervision gives and costs, measured with seeds, controls and paired intervals."""

import sys
from pathlib import Path

# The scripts beside this folder are run as files and import each other by their plain names.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
