"""What an audit writes into its output, by name: what is old goes, and a log in the same folder is told from it."""

from pathlib import Path

from jobs.rundir import RunDir

REPORT, PAGE, REJECTED, CACHE = "report.json", "report.html", "rejected.parquet", "cache"
TABLES, CSV, FOCUS = "tables", "csv", "focus"
"""Folders below the output; tables that an earlier audit left in them go, other files stay."""

NAMES = (
    "daily", "hourly", "tenants", "models", "providers", "tiers", "prompt_groups", "unpriced", "logged_spend",
    "control", "what_if_curve", "what_if_groups", "what_if_days",
)  # fmt: skip
"""Tables that an audit may write."""
FOCUS_FILES = ("focus.parquet", "focus.csv")

_FILES = {
    *(Path(name) for name in (REPORT, PAGE, REJECTED)),
    *(Path(TABLES, f"{name}.parquet") for name in NAMES),
    *(Path(CSV, f"{name}.csv") for name in NAMES),
    *(Path(FOCUS, name) for name in FOCUS_FILES),
}


def is_result(file: Path, *, output: Path, log: Path) -> bool:
    """Whether an audit wrote a file, by its name; folders that it has for itself count as a whole.

    Args:
        file: A file in the output.
        output: Folder of results.
        log: Folder that is looked through for a log: within a folder of the audit's own, files in it count as data.
    """
    own = [folder for folder in (output / CACHE, RunDir(output).staging) if not log.is_relative_to(folder)]
    return file.relative_to(output) in _FILES or any(file.is_relative_to(folder) for folder in own)
