"""`nightroute status RUN_DIR`: how far a run is, what it spent, whether anybody works on it."""

from pathlib import Path
from typing import Any

import polars as pl

from jobs import console
from jobs.embedding_cost import read_bill
from jobs.night import refuse_labelling, saved_job
from jobs.rundir import RunDir, is_locked, read_json
from routing.account import Billing
from routing.ledger import LedgerReader
from schemas.run import EmbeddingBill, Manifest, Plan, Split


def status(run_dir: Path) -> int:
    """Print the state of a run; returns the exit code.

    Raises:
        InputMissingError: the folder holds no run.
        ConfigError: it holds a labelling run.
    """
    run = RunDir(run_dir)
    refuse_labelling(run)
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
    bill = _bill(run, plan)
    if bill is not None:
        record["embedding"] = bill.model_dump(mode="json")
    _add_dispatch(record, run)
    record["state"] = _state(record, run)
    lines = [
        f"run {plan.run_id} in {run.root}: {record['state']}{', a process is at work' if record['running'] else ''}"
    ]
    lines.append(f"scored {record['parts_scored']} of {record['parts']} parts")
    if bill is not None:
        lines.append(console.embedding_line(bill))
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


def _bill(run: RunDir, plan: Plan) -> EmbeddingBill | None:
    model = plan.identity.embedding
    if model is None:
        return None
    access = saved_job(run.root).config.router.embedding
    provider = None if access is None else access.provider
    return read_bill(run, pl.read_parquet(run.prices), Billing(model["name"], model["base_url"], provider, 0))


def _state(record: dict[str, Any], run: RunDir) -> str:
    if run.manifest.exists():
        return "published"
    if "queries" in record:
        return "dispatched, not published" if record["decided"] >= record["queries"] else "dispatching"
    if run.split.exists():
        return "scored"
    return "embedding" if record.get("embedding") and not record["parts_scored"] else "scoring"
