"""The first paragraphs of the page: which router, how sure, against what, for how much."""

import pytest

from jobs.report.evaluation import evaluation_page
from schemas import evaluation as e
from tests.evaluation_reports import large_report, one, small_report
from tests.pages import parsed


def plain(words: str) -> str:
    """Minus signs and dashes as they are typed."""
    return words.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")


def test_the_summary_says_which_router_how_sure_against_what_and_for_how_much() -> None:
    page = parsed(evaluation_page(large_report()))
    assert page.one("p", class_="lead").words == (
        "cluster-mmlu has the highest APGR on 3 of 3 benchmarks. The best router is above random on 3; "
        "better than prompt length on 1, worse on 0."
    )
    mmlu, gsm8k, mt_bench = (plain(item.words) for item in page.one("ul", class_="verdicts").all("li"))
    assert "cluster-mmlu has APGR .652 [.636, .669], the highest of 4 routers." in mmlu
    assert "Its interval excludes random, and 19 in 20 random routers fall between .484 and .517." in mmlu
    assert "Better than prompt length (.586) by +.066 [+.046, +.088], p < .001." in mmlu
    assert "Half of the gap between the two models takes .32 [.30, .33] of the queries on the strong one." in mmlu
    assert "Not told apart from prompt length (.586): difference +.066 [-.004, +.143], p = .057." in gsm8k
    # usd_cpt50 is .3476 (.3086 to .3897): 0.3476 x (11.48262 - 0.2917284) = 3.8900; 0.5 / .3476 = 1.44
    assert "or $3.89 of the $11.19 that all-strong costs above all-weak" in gsm8k
    assert "a dollar buys 1.44 [1.28, 1.62] times what it buys under a random split" in gsm8k
    assert "$" not in mmlu + mt_bench


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (one(router="mine", value=0.6, low=0.55, high=0.66), "Its interval excludes random."),
        (one(router="mine", value=0.6, low=0.48, high=0.7), "Its interval does not exclude random (.500)."),
        (one(router="mine", value=0.4, low=0.3, high=0.49), "It is worse than random."),
        (one(router="mine", value=0.6), "Without an interval it cannot be told from random."),
        (
            one(router="mine", value=0.53, low=0.51, high=0.55) + one(router="random", value=0.5, low=0.44, high=0.56),
            "A random router does as well: 19 in 20 fall between .440 and .560.",
        ),
        (
            one(router="mine", value=0.6, low=0.48, high=0.7) + one(router="random", value=0.5, low=0.44, high=0.56),
            "Its interval does not exclude random (.500); 19 in 20 random routers fall between .440 and .560.",
        ),
        (one(router="mine", value=0.6), "Prompt length was not measured."),
        (
            one(router="mine", value=0.6) + one(router="length", value=0.58, low=0.5, high=0.62),
            "Prompt length alone has .580 [.500, .620]; the two were not compared in pairs.",
        ),
    ],
)
def test_verdicts(figures: list[e.Figure], said: str) -> None:
    page = parsed(evaluation_page(small_report(figures=figures)))
    assert said in page.one("ul", class_="verdicts").words


def test_a_router_that_is_worse_than_length() -> None:
    worse = e.Comparison(
        benchmark="tickets",
        router="mine",
        other="length",
        metric="apgr",
        difference=-0.05,
        low=-0.08,
        high=-0.02,
        p=0.002,
    )
    page = parsed(evaluation_page(small_report(comparisons=[worse])))
    said = plain(page.one("ul", class_="verdicts").words)
    assert "Worse than prompt length (-): -.050 [-.080, -.020], p = .002." in said
    assert page.one("p", class_="lead").words == (
        "mine on 1 benchmark: it is above random on 1; better than prompt length on 0, worse on 1."
    )
