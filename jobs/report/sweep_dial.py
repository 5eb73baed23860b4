"""What the slider of a curve says: the current point in figures, in a sentence, and in a few words."""

from collections.abc import Sequence

from jobs.report.dial import Dial, Stop, Tile
from jobs.report.numbers import Estimate, Number, less_or_more, number
from jobs.report.sweep_view import SweepView
from jobs.report.views import Emphasis, Words


def make_dial(view: SweepView, stops: Sequence[Stop], paid: Number, *, calls: str) -> Dial:
    """Return the slider of a curve.

    Args:
        view: The curve.
        stops: Points with a button.
        paid: What the routed calls did cost, with its place in the report.
        calls: What is routed: calls, queries.
    """
    alpha = view.alpha()
    strong = view.moving(view.point.strong_share, "share", "points", "*", "strong_share")
    name: Words = ["alpha ", alpha, ", strong share ", strong]
    return Dial(
        len(view.sweep.points) - 1, view.index, name, _told(view, alpha, paid, calls), _tiles(view, paid), stops
    )


def _told(view: SweepView, alpha: Number, paid: Number, calls: str) -> Words:
    cost, saved, best = _costs(view)
    n = view.moving(view.point.n_strong, "count", "points", "*", "n_strong")
    told: list[str | Number | Estimate | Emphasis] = [
        "Alpha ", alpha, " sends ", n, f" {calls} to the strong model. They all would cost ", cost.value, ", that is ",
        *_spaced(_less(view, cost, paid)), " than was paid and ", *_spaced(saved.value), " than all strong",
    ]  # fmt: skip
    if not _alike(view):
        told += [", ", *_spaced(best.value), f" than {view.sweep.best_single} alone"]
    kept = view.estimate("percent", "quality_share")
    return [*told, "."] if kept is None else [*told, "; ", kept.value, " of the strong model's quality is kept."]


def _tiles(view: SweepView, paid: Number) -> list[Tile]:
    cost, saved, best = _costs(view)
    assert paid.value is not None
    tiles = [
        Tile("cost", [cost], ["instead of ", paid, " paid"]),
        Tile(
            "saved against paid", [_less(view, cost, paid)],
            [view.worked(cost.value, "saved", "percent", paid.value, paid.path), " of it"],
        ),
        Tile("saved against all strong", [saved], [view.sweep.strong.model]),
    ]  # fmt: skip
    if not _alike(view):
        tiles.append(Tile("saved against the best single", [best], [view.sweep.best_single]))
    kept, grade = view.estimate("percent", "quality_share"), view.estimate("ratio", "quality")
    if kept is not None and grade is not None:
        return [*tiles, Tile("quality kept", [kept], ["mean grade ", grade.value])]
    wins = view.moving(view.point.expected_wins, "ratio", "points", "*", "expected_wins")
    return [
        *tiles, Tile("quality kept", [number(None, "percent")], ["nobody graded the answers"]),
        Tile("expected wins", [wins], ["the router's own claim"]),
    ]  # fmt: skip


def _costs(view: SweepView) -> tuple[Estimate, Estimate, Estimate]:
    """Cost, saving against all strong, saving against the best single model: every curve has them."""
    cost, saved = view.estimate("about", "cost_usd"), view.estimate("percent", "saving_share")
    best = view.estimate("percent", "saving_vs_best_share")
    assert cost is not None
    assert saved is not None
    assert best is not None
    return cost, saved, best


def _less(view: SweepView, cost: Estimate, paid: Number) -> Number:
    assert paid.value is not None
    return view.worked(cost.value, "less", "about", paid.value, paid.path)


def _spaced(saving: Number) -> Words:
    size, word = less_or_more(saving)
    return [size, " ", word]


def _alike(view: SweepView) -> bool:
    return view.sweep.best_single == view.sweep.strong.model
