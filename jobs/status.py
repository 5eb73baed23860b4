"""`nightroute status RUN_DIR`: how far a run is, what it spent, whether anybody works on it."""

from pathlib import Path
from typing import Any

from jobs import console
from jobs.rundir import RunDir, is_locked, read_json
from routing.ledger import LedgerReader
from schemas.run import Manifest, Plan, Split


def status(run_dir: Path) -> int:
    """Print the state of a run; returns the exit code.

    Raises:
        InputMissingError: the folder holds no run.
    """
    run = RunDir(run_dir)
    plan = read_json(Plan, run.plan)
    record: dict[str, Any] = {
        "job": "status",
        "run_id": plan.run_id,
        "run_dir": str(run.root),
        "started_at": plan.created_at.isoformat(),
        "running": is_locked(run),
        "parts": len(plan.parts),
        "parts_scored": sum(run.scores(part.number).exists() for part in plan.parts),
    }
    _add_dispatch(record, run)
    record["state"] = _state(record, run)
    lines = [
        f"run {plan.run_id} in {run.root}: {record['state']}{', a process is at work' if record['running'] else ''}"
    ]
    lines.append(f"scored {record['parts_scored']} of {record['parts']} parts")
    if "queries" in record:
        lines.append(
            f"decided {record['decided']:,} of {record['queries']:,} queries, {record['failed']:,} of them failed"
        )
        lines += [f"  {model}: {dict(outcomes)}" for model, outcomes in record["outcomes"].items()]
    if record.get("unknown_calls"):
        lines.append(f"{record['unknown_calls']} calls were in flight at a kill (or are now)")
    if run.manifest.exists():
        totals = read_json(Manifest, run.manifest).totals
        record["cost_usd"] = str(totals.cost_usd)
        lines.append(f"published; cost {console.usd(totals.cost_usd)}")
    for line in lines:
        console.say(line)
    console.emit(record)
    return 0


def _add_dispatch(record: dict[str, Any], run: RunDir) -> None:
    if not (run.split.exists() and run.ledger.exists()):
        return
    split = read_json(Split, run.split)
    ledger = LedgerReader(run.ledger)
    counts = ledger.counts()
    outcomes: dict[str, dict[str, int]] = {}
    for model, error_code, calls, _ in counts.iter_rows():
        outcomes.setdefault(model, {})[error_code or "answered"] = calls
    record |= {
        "queries": split.n,
        "decided": int(counts["calls"].sum()),
        "failed": int(counts.filter(counts["error_code"].is_not_null())["calls"].sum()),
        "attempts": int(counts["attempts"].sum() or 0),
        "outcomes": outcomes,
        "unknown_calls": ledger.unknown().height,
    }


def _state(record: dict[str, Any], run: RunDir) -> str:
    if run.manifest.exists():
        return "published"
    if "queries" in record:
        return "dispatched, not published" if record["decided"] >= record["queries"] else "dispatching"
    return "scored" if run.split.exists() else "scoring"
