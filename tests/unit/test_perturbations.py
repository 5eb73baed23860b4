import polars as pl
import pytest

from routing.perturbations import PERTURBATIONS

PROMPT = "Def  f(x):\n    return x  # äß "

EXPECTED = {
    "upper_case": "DEF  F(X):\n    RETURN X  # ÄSS ",
    "lower_case": "def  f(x):\n    return x  # äß ",
    "title_case": "Def  F(X):\n    Return X  # Äß ",
    "double_spaces": "Def    f(x):\n        return  x    #  äß  ",
    "single_spaces": "Def f(x):\n    return x # äß ",
    "trimmed": "Def  f(x):\n    return x  # äß",
    "trailing_newline": PROMPT + "\n",
    "trailing_spaces": PROMPT + "   ",
    "thanks": PROMPT + "\n\nThanks!",
    "please": PROMPT + "\n\nPlease answer the above.",
    "greeting": "Hello!\n\n" + PROMPT,
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_change_does_what_it_says(name: str) -> None:
    table = pl.DataFrame({"prompt": [PROMPT, "a"]})
    changed = table.select(PERTURBATIONS[name](pl.col("prompt"))).to_series()
    assert changed[0] == EXPECTED[name]
    assert changed[1].strip()


def test_none_is_missing_here() -> None:
    assert set(PERTURBATIONS) == set(EXPECTED)
