"""How far tenants are apart."""

import numpy as np
import pytest

from routing.audit.credibility import ASSUMED_DEGREES, TENANT_SPREAD, between, degrees


@pytest.mark.parametrize("apart", [0.0, 0.1, 0.5])
def test_a_known_spread_is_found_among_many(apart: float) -> None:
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.001, 0.05, 2_000)
    ratio = 1.0 + rng.normal(0.0, np.sqrt(apart**2 + noise))
    assert between(ratio, noise) == pytest.approx(apart**2, rel=0.1, abs=0.001)


def test_few_tenants_count_as_much_as_they_are() -> None:
    exact = np.full(3, 1e-9)
    assert between(exact[:1] + 1.0, exact[:1]) == TENANT_SPREAD**2
    seen = np.array([0.5, 1.0, 1.5])  # of variance .25
    expected = (ASSUMED_DEGREES * TENANT_SPREAD**2 + 2 * 0.25) / (ASSUMED_DEGREES + 2)
    assert between(seen, exact) == pytest.approx(expected, rel=1e-3)
    assert [degrees(tenants) for tenants in (0, 1, 3)] == [ASSUMED_DEGREES, ASSUMED_DEGREES, ASSUMED_DEGREES + 2]
