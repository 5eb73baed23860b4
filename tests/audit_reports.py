"""Audit reports as a job would write them; figures follow formulas, so a test needs no log and no seconds."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import exp, sin
from typing import Any

from schemas import audit as a
from schemas import sweep as s

BEGIN = date(2026, 8, 24)
STRONG, WEAK = "gpt-5.2-2026-05-20", "gpt-5-mini-2025-08-07"
HOSTILE = "<script>alert('x')</script>\"'&</style><!--\u2028]]>{{ 7*7 }}{% raw %}"
FORMULA = '=HYPERLINK("http://127.0.0.1/?"&A1;"pay")'
_CENT = Decimal("0.000000000001")


def usd(value: float) -> Decimal:
    """Money as the books hold it: twelve decimals."""
    return Decimal(repr(value)).quantize(_CENT)


def large_report(tenants: int = 100, days: int = 90, points: int = 101) -> a.AuditReport:
    """Every part: 100 tenants on 90 days, a curve of 101 points for each of them, and everything that can be wrong."""
    paid = _paid(tenants, days)
    rows = a.RowCounts(
        read=1_268_411, left_out=48_210, rejected=3_902, duplicated=12_514, kept=1_251_995,
        null_ids=6_260,
        identical_null_ids=1_204, reused_ids=118, unpriced=8_731, unbilled=20_114, failed=15_733,
        missing_prompts=25_020,
    )  # fmt: skip
    return a.AuditReport(
        name="Platform, autumn quarter",
        created_at=datetime(2026, 11, 22, 16, 20, 5, tzinfo=UTC),
        nightroute_version="0.1.0",
        log_format="litellm",
        files=[
            a.LogFile(path=f"spend_logs/2026-{month:02d}.parquet", rows=422_803 + month, sha256=f"{month % 10}" * 64)
            for month in (9, 10, 11)
        ],
        first_called_at=datetime(2026, 8, 24, 0, 0, 7, tzinfo=UTC),
        last_called_at=datetime(2026, 11, 21, 23, 59, 51, tzinfo=UTC),
        prices_sha256="9" * 64,
        price_source="genai-prices 0.2.3 and 1 override",
        reconciliation=_reconciliation(rows),
        paid=paid,
        what_if=what_if(paid, points=points),
        notes=["September holds a load test of the team `search` on the 18th."],
        versions={"nightroute": "0.1.0", "polars": "2.1.0"},
    )


def small_report(**changes: Any) -> a.AuditReport:
    """One tenant, one model, three days, nothing wrong, no what-if."""
    part = 300 / 1_251_995
    spend = _spend(None, part, clean=True)
    report = a.AuditReport(
        name="One week",
        created_at=datetime(2026, 11, 22, 16, 20, tzinfo=UTC),
        nightroute_version="0.1.0",
        log_format="table",
        files=[a.LogFile(path="calls.parquet", rows=300, sha256="d" * 64)],
        first_called_at=datetime(2026, 11, 1, 8, 0, tzinfo=UTC),
        last_called_at=datetime(2026, 11, 3, 18, 0, tzinfo=UTC),
        prices_sha256="e" * 64,
        price_source="genai-prices 0.2.3",
        reconciliation=a.Reconciliation(
            rows=row_counts(), rejected=[], unpriced=[], gaps=[], models=[], model_changes=[], price_changes=[],
            control=[], control_keys=3,
        ),
        paid=a.Paid(
            total=spend,
            days=[
                a.DaySpend(
                    day=date(2026, 11, k), spend=_spend(None, part * k / 6, clean=True), groups=[spend.cost_usd * k / 6]
                )
                for k in (1, 2, 3)
            ],
            tenants=[spend],
            models=[_spend(STRONG, part, clean=True)],
            providers=[_spend("openai", part, clean=True)],
            tiers=[_spend("standard", part, clean=True)],
            prompt_groups=[],
            waste=a.Waste(
                failed_calls=0, failed_usd=Decimal(0), retried_calls=0, extra_attempts=0,
                duplicated_logged_usd=Decimal(0), errors=[],
            ),
        ),
    )  # fmt: skip
    return report.model_copy(update=changes)


def row_counts(**changes: int) -> a.RowCounts:
    """Counts of a log that nothing is wrong with, but for what is named."""
    counts = {
        "read": 300, "rejected": 0, "duplicated": 0, "kept": 300, "null_ids": 0, "identical_null_ids": 0,
        "reused_ids": 0, "unpriced": 0, "unbilled": 0, "failed": 0, "missing_prompts": 0,
    }  # fmt: skip
    return a.RowCounts(**{**counts, **changes})


def reconciled(**changes: Any) -> a.AuditReport:
    """The small report with another reconciliation."""
    report = small_report()
    return report.model_copy(update={"reconciliation": report.reconciliation.model_copy(update=changes)})


def what_if(paid: a.Paid, *, points: int = 11, graded: bool = True, recommended: bool = True) -> a.WhatIf:
    """A what-if over the tenants of a bill."""
    routed_paid = 0.86 * float(paid.total.cost_usd)
    routed = round(0.86 * paid.total.calls)
    curve = sweep(routed_paid, [float(t.cost_usd) for t in paid.tenants], calls=routed, points=points, graded=graded)
    curve = curve.model_copy(
        update={
            "groups": [
                g.model_copy(update={"group": t.key, "calls": t.calls, "routed_calls": round(0.86 * t.calls)})
                for g, t in zip(curve.groups, paid.tenants, strict=True)
            ]
        }
    )
    kept = [k for k, p in enumerate(curve.points) if p.quality_share is not None and p.quality_share.low >= 0.97]
    best = min(kept, default=None) if recommended else None
    return a.WhatIf(
        router="static-mf",
        router_sha256="5" * 64,
        sweep=curve,
        routed_calls=routed,
        routed_paid_usd=usd(routed_paid),
        unrouted=[
            a.UnroutedCalls(
                reason=reason, calls=round(part * paid.total.calls), cost_usd=usd(cost * float(paid.total.cost_usd))
            )
            for reason, part, cost in (
                ("another model", 0.0768, 0.094),
                ("no prompt text", 0.02, 0.021),
                ("not a chat", 0.0248, 0.012),
                ("failed", 0.0126, 0.009),
                ("unpriced", 0.007, 0.0),
            )
        ],
        answer_lengths=[
            a.AnswerLengths(model=STRONG, calls=811_204, mean_output_tokens=412.73, assumed=False),
            a.AnswerLengths(model=WEAK, calls=0, mean_output_tokens=264.0, assumed=True),
        ],
        labels_sha256="6" * 64 if graded else None,
        label_rows=1_500 if graded else None,
        calibration="isotonic on 1,500 graded prompts of this log"
        if graded
        else "no labels were given: add [what_if.labels] with graded prompts",
        quality_floor=0.97 if graded else None,
        recommended=best,
        advice=f"Alpha {curve.points[best].alpha:.6f} keeps 97 % of the strong model's quality at the lowest cost."
        if best is not None
        else "No alpha is recommended: without labels nobody knows what the cheaper answers are worth.",
        assumptions=[
            "Calls that move ask the same, and pay their cached tokens in full.",
            "The answers of the weak model are as long as its own were.",
        ],
    )


def sweep(total: float, groups: list[float], *, calls: int, points: int, graded: bool = True) -> s.Sweep:
    """A curve from all weak to all strong over calls that cost `total` on the strong model."""
    weak, strong = 0.16, 1.07 * total  # a part of the calls went to the weak model
    whole = total or 1.0
    shares = [k / (points - 1) for k in range(points)]

    def cost(share: float) -> float:
        return strong * (weak + (1 - weak) * (share + 0.1 * share * (1 - share)))

    def quality(share: float) -> float:
        return 0.741 + 0.131 * (1 - float((1 - share) ** 2.6))

    def around(value: float, width: float) -> s.Estimate:
        return s.Estimate(value=value, low=value - width, high=value + 1.07 * width)

    def point(k: int, share: float) -> s.SweepPoint:
        usd_, doubt = cost(share), 0.021 * total * (1 - share)
        return s.SweepPoint(
            alpha=None if k == 0 else 0.93 - 0.83 * share**0.8,
            strong_share=share,
            n_strong=round(calls * share),
            cost_usd=around(usd_, doubt),
            observed_usd=0.82 * total * share**1.1,
            saving_usd=around(strong - usd_, doubt),
            saving_share=around((strong - usd_) / (1.07 * whole), doubt / whole),
            saving_vs_best_share=around((strong - usd_) / (1.07 * whole), doubt / whole),
            quality=around(quality(share), 0.011) if graded else None,
            quality_share=around(quality(share) / quality(1.0), 0.012 * (1.02 - share)) if graded else None,
            expected_wins=0.46 + 0.31 * share - 0.09 * share**2,
        )

    return s.Sweep(
        strong=s.SingleModel(
            model=STRONG,
            cost_usd=around(strong, 0.004 * total),
            saving_share=around(0.0, 0.0),
            quality=around(0.872, 0.009) if graded else None,
        ),
        weak=s.SingleModel(
            model=WEAK,
            cost_usd=around(cost(0), 0.021 * total),
            saving_share=around((strong - cost(0)) / (1.07 * whole), 0.021 * total / whole),
            quality=around(0.741, 0.013) if graded else None,
        ),
        best_single=STRONG,
        points=[point(k, share) for k, share in enumerate(shares)],
        groups=[_group(k, group, shares, graded=graded) for k, group in enumerate(groups)],
        histogram=s.Histogram(
            counts=[round(0.0427 * calls * exp(-(((k - 16) / 9) ** 2)) * (k < 48)) for k in range(50)]
        ),
    )


def poisoned(document: Any) -> Any:
    """The same JSON with hostile text wherever a text is neither a number nor a date."""
    if isinstance(document, dict):
        return {key: poisoned(value) for key, value in document.items()}
    if isinstance(document, list):
        return [poisoned(value) for value in document]
    if isinstance(document, str) and not re.fullmatch(r"-?[\d.]+(E[-+]?\d+)?|\d{4}-\d\d-\d\d.*", document):
        return f"{HOSTILE}{document}"
    return document


def _group(k: int, paid: float, shares: list[float], *, graded: bool) -> s.GroupSweep:
    routed, lean = 0.86 * paid, 1 + 0.3 * sin(k)
    own = [min(1.0, share**lean) for share in shares]
    return s.GroupSweep(
        group=f"team-{k}",
        calls=100,
        routed_calls=86,
        paid_usd=paid,
        routed_paid_usd=routed,
        all_strong_usd=routed * 1.04,
        strong_share=own,
        cost_usd=[routed * 1.04 * (0.16 + 0.84 * share) for share in own],
        quality=[0.74 + 0.13 * share + 0.01 * sin(k + share) for share in own] if graded else None,
    )


def _spend(key: str | None, part: float, *, clean: bool = False) -> a.Spend:
    calls = max(1, round(1_251_995 * part))
    bad = 0 if clean else calls
    return a.Spend(
        key=key, calls=calls, failed_calls=bad // 80, unpriced_calls=bad // 143, input_tokens=calls * 1_311,
        cached_tokens=calls * 402, output_tokens=calls * 388, reasoning_tokens=calls * 101,
        cost_usd=usd(48_213.558123456789 * part), logged_usd=usd(47_871.2345 * part),
    )  # fmt: skip


def _paid(tenants: int, days: int) -> a.Paid:
    weights = [1 / (k + 1.4) ** 1.15 for k in range(tenants)]
    weights = [w / sum(weights) for w in weights]
    names = ["search", "assistant", "support-desk", "billing", "research / evals", "docs", "growth", "data platform"]
    keys = [*names, *(f"team-{k:03d}" for k in range(len(names), tenants - 1)), None][:tenants]
    season = [1 + 0.25 * sin(k / 14) - (0.55 if (BEGIN + timedelta(days=k)).weekday() > 4 else 0) for k in range(days)]
    season[days // 3] *= 2.1
    whole = sum(season)
    found = []
    for k in range(days):
        groups = [w * (1 + 0.4 * sin(3 * k + i)) for i, w in enumerate(weights)]
        scale = season[k] / whole / sum(groups)
        found.append(
            a.DaySpend(
                day=BEGIN + timedelta(days=k),
                spend=_spend(None, season[k] / whole),
                groups=[usd(48_213.56 * scale * group) for group in groups],
            )
        )
    return a.Paid(
        total=_spend(None, 1.0),
        days=found,
        tenants=[_spend(key, w) for key, w in zip(keys, weights, strict=True)],
        models=[
            _spend(STRONG, 0.61), _spend("claude-sonnet-4-5-20250929", 0.21), _spend("gpt-5-2025-08-07", 0.11),
            _spend(WEAK, 0.05), _spend("text-embedding-3-large", 0.0199), _spend(None, 0.0001),
        ],
        providers=[_spend("openai", 0.79), _spend("anthropic", 0.21)],
        tiers=[_spend("standard", 0.88), _spend("batch", 0.09), _spend("priority", 0.03)],
        prompt_groups=[
            a.PromptGroup(
                template_sha256=f"{k:064x}",
                excerpt=text,
                calls=90_000 // (k + 1),
                input_tokens=180_000_000 // (k + 1),
                output_tokens=40_000_000 // (k + 1),
                cost_usd=usd(5_100.5 / (k + 1)),
            )
            for k, text in enumerate([
                "You are the assistant of … Answer in at most … sentences.", "Summarise the following ticket: …",
                FORMULA, HOSTILE, None, "Translate into …: …",
            ])
        ],
        waste=a.Waste(
            failed_calls=15_733, failed_usd=usd(211.4302), retried_calls=9_871, extra_attempts=14_002,
            duplicated_logged_usd=usd(466.12),
            errors=[
                a.ErrorCount(error_code="rate_limit", calls=9_022, cost_usd=Decimal(0)),
                a.ErrorCount(error_code="timeout", calls=4_310, cost_usd=usd(180.2)),
                a.ErrorCount(error_code="content_filter", calls=2_001, cost_usd=usd(31.2302)),
                a.ErrorCount(error_code=None, calls=400, cost_usd=Decimal(0)),
            ],
        ),
    )  # fmt: skip


def _reconciliation(rows: a.RowCounts) -> a.Reconciliation:
    def at(day: int, hour: int = 0) -> datetime:
        return datetime(2026, 8, 24, hour, tzinfo=UTC) + timedelta(days=day)

    return a.Reconciliation(
        rows=rows,
        rejected=[
            a.RejectedRows(rule="time_known", rows=2_204),
            a.RejectedRows(rule="tokens_not_negative", rows=1_698),
        ],
        unpriced=[
            a.UnpricedCalls(
                reason="no price for model 'in-house-7b'", calls=8_331, input_tokens=10_921_000,
                output_tokens=3_100_200, logged_usd=Decimal(0),
            ),
            a.UnpricedCalls(
                reason="tokens unknown", calls=400, input_tokens=0, output_tokens=0, logged_usd=None
            ),
        ],
        gaps=[
            a.Gap(start=at(33, 2), end=at(33, 15), hours=13, expected_calls=7_204.5),
            a.Gap(start=at(61, 20), end=at(62, 1), hours=5, expected_calls=1_902.25),
        ],
        models=[
            _logged(STRONG, "openai", 760_000, 29_410.26, 29_410.26, 0),
            _logged("claude-sonnet-4-5-20250929", "anthropic", 262_000, 10_900.5, 10_124.847205925926, 41_204),
            _logged("gpt-5-2025-08-07", "openai", 138_000, 5_303.49, 5_303.491393580247, 311),
            _logged(None, None, 120, 0.0, 4.8, 120),
        ],
        model_changes=[
            a.ModelChange(
                provider="openai", before="gpt-5-2025-08-07", after=STRONG, changed_at=at(41, 9), calls_before=138_000,
                calls_after=402_113, same_price=False,
            )
        ],
        price_changes=[
            a.PriceChange(
                provider="anthropic", model="claude-sonnet-4-5-20250929", processing="standard", changed_at=at(52),
                before_price_id="anthropic/claude-sonnet-4-5/1", after_price_id="anthropic/claude-sonnet-4-5/2",
                calls_before=150_811, calls_after=111_189, stale_calls=41_204,
                stale_usd=usd(10_900.5) - usd(10_124.847205925926),
            )
        ],
        control=[
            a.ControlDifference(
                key=f"{at(day):%Y-%m-%d}", measure=measure, logged=Decimal(logged), control=Decimal(logged + more),
                difference=Decimal(-more),
            )
            for day in (3, 41)
            for measure, logged, more in (("calls", 13_000 + day, 40), ("input_tokens", 17_000_311, 52_440))
        ],
        control_keys=90,
    )  # fmt: skip


def _logged(model: str | None, provider: str | None, calls: int, logged: float, true: float, off: int) -> a.LoggedSpend:
    return a.LoggedSpend(
        provider=provider, model=model, calls=calls, compared_calls=calls - calls // 50, logged_usd=usd(logged),
        recomputed_usd=usd(true), difference_usd=usd(logged) - usd(true), differing_calls=off,
        first_called_at=datetime(2026, 8, 24, 0, 1, tzinfo=UTC), last_called_at=datetime(2026, 11, 21, 23, tzinfo=UTC),
    )  # fmt: skip
