"""What people see of a calibration, with the lines for their job config."""

from collections.abc import Mapping
from decimal import Decimal

from jobs import console
from schemas.calibration import CalibrationReport, PgrTarget, Range


def show(report: CalibrationReport) -> None:
    """Print what was found, and what to paste."""
    made = report.calibration
    if made is not None:
        console.say(
            f"router {report.router}: {made.method} on {made.n:,} labels; expected calibration error "
            f"{made.ece_before:.4f} before, {made.ece_after:.4f} after; log loss {made.log_loss_before:.4f} before, "
            f"{made.log_loss_after:.4f} after (cross-fitted)"
        )
        if made.log_loss_after >= made.log_loss_before:
            console.say("  it is no better for it on labels that it was not fitted on: the router as it was will do")
    share, budget, pgr = report.strong_share, report.max_usd, report.pgr
    if share is not None:
        console.say(f"strong_share {share.wanted:g}: {_cut(share.alpha, share.strong_share)} of {share.n:,} queries")
        console.say(f"  another table of as many rows: {_span(share.next_table)}")
    if budget is not None:
        console.say(f"max_usd {budget.max_usd}: {_cut(budget.alpha, budget.strong_share)} of {budget.n:,} queries")
        usd = budget.next_usd
        console.say(
            f"  expected cost {console.usd(budget.expected_usd)}; another table of as many rows: "
            f"{console.usd(Decimal(str(usd.low)))} to {console.usd(Decimal(str(usd.high)))}"
        )
    if pgr is not None:
        for line in _pgr_lines(pgr):
            console.say(line)
    alphas = _alphas(report)
    if alphas:
        console.say("for the job config" + (", one of the alphas:" if len(alphas) > 1 else ":"))
        console.say(f"[router]\nartifact = {_quoted(report.artifact)}\n[split]")
        for comment, alpha in alphas.items():
            console.say(f"alpha = {alpha!r}  # {comment}")


def _pgr_lines(pgr: PgrTarget) -> list[str]:
    told = f"pgr {pgr.wanted:g} with confidence {pgr.confidence:g}"
    if pgr.alpha is not None and pgr.strong_share is not None:
        none = "none, over all these labels the strong model is not better; use more"
        estimate = none if pgr.pgr is None else _span(pgr.pgr)
        return [
            f"{told}: {_cut(pgr.alpha, pgr.strong_share)} of {pgr.n:,} labels ({pgr.decided:,} decided)",
            f"  estimated PGR at this alpha: {estimate}",
        ]
    if pgr.labels_needed is None:
        remedy = "on them the strong model is not better, so there is no gap to recover"
    else:
        remedy = (
            f"the strong model seems {pgr.gap:.3f} better, which about {pgr.labels_needed:,} labels would show; until "
            "then all strong is all that can be done"
        )
    return [
        f"{told}: no alpha, not even all strong, is supported by {pgr.n:,} labels ({pgr.decided:,} decided): {remedy}"
    ]


def _cut(alpha: float, strong_share: Range) -> str:
    return f"alpha {alpha:.6f}, strong share {_span(strong_share)}"


def _span(found: Range) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _alphas(report: CalibrationReport) -> Mapping[str, float]:
    """What to paste, and why it is that number."""
    found: dict[str, float] = {}
    if report.strong_share is not None:
        found[f"strong_share = {report.strong_share.wanted:g}"] = report.strong_share.alpha
    if report.max_usd is not None:
        found[f"max_usd = {report.max_usd.max_usd} for {report.max_usd.n:,} queries"] = report.max_usd.alpha
    if report.pgr is not None and report.pgr.alpha is not None:
        found[f"pgr >= {report.pgr.wanted:g}, {report.pgr.confidence:.0%} sure"] = report.pgr.alpha
    return found
