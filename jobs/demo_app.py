"""The script that Streamlit runs for `nightroute demo`; the page is in `jobs.demo_page`."""

import sys
from pathlib import Path

# Streamlit puts a script's folder in front of the path, where `jobs/config.py` would be everybody's `config`.
sys.path[:] = [entry for entry in sys.path if entry != str(Path(__file__).parent)]

from jobs.demo_page import page  # noqa: E402

page(sys.argv[1:])
