from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from routing.audit.overrides import unused_overrides
from routing.prices import price_snapshot
from schemas.billing import PriceOverride
from tests.audit_frames import booked, call_log

ONE = Decimal(1)


def override(model: str, **changes: object) -> PriceOverride:
    return PriceOverride.model_validate(
        {"model": model, "input_usd_per_mtok": ONE, "output_usd_per_mtok": ONE, **changes}
    )


def told(folder: Path, *overrides: PriceOverride, besides: tuple[str, ...] = ()) -> list[str]:
    """Sentences on a log of two models."""
    prices = price_snapshot(overrides)
    log = call_log({"model": "gpt-4o-2024-08-06"}, {"model": "house"}, {"model": None}, provider="openai")
    return unused_overrides(booked(log, folder, prices=prices).daily, prices, besides=besides)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gpt-4o", "it holds for exactly this name, and the log has 'gpt-4o-2024-08-06'."),
        ("openai/House", "it holds for exactly this name, and the log has 'house'."),
        ("gpt-5", "the log has no such model."),
    ],
)
def test_an_override_that_priced_no_call_is_named(tmp_path: Path, name: str, why: str) -> None:
    assert told(tmp_path, override("house"), override(name)) == [f"[[prices]] of {name!r} priced no call: {why}"]


def test_the_right_name_at_the_wrong_time_or_place(tmp_path: Path) -> None:
    late = override("house", valid_from=datetime(2099, 1, 1, tzinfo=UTC))
    assert told(tmp_path, late) == [
        "[[prices]] of 'house' priced no call: the log has this model, so look at provider, valid_from and valid_to."
    ]
    assert told(tmp_path, override("house", provider="azure"))[0].startswith("[[prices]] of 'house' at 'azure' priced")


def test_overrides_that_are_there_for_something_are_not_named(tmp_path: Path) -> None:
    last_year = override("house", valid_to=datetime(2026, 1, 1, tzinfo=UTC))
    now = override("house", valid_from=datetime(2026, 1, 1, tzinfo=UTC), batch_factor=Decimal("0.5"))
    assert told(tmp_path, last_year, now) == []
    assert told(tmp_path, override("gpt-4o"), besides=("gpt-4o",)) == []
    assert told(tmp_path) == []
