"""The demo's page: widgets and layout. What it shows is worked out in `jobs.demo_data` and `jobs.demo_figures`.

Prompts, file, column and model names are untrusted: they reach the browser as plain text only, escaped where Streamlit
reads Markdown.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import numpy as np
import polars as pl
import streamlit as st
from numpy.typing import NDArray

from jobs import demo_data as data
from jobs import demo_figures as figures
from jobs.config import Model
from jobs.demo import SLOW, Offer, offers
from jobs.demo_charts import curve_chart
from jobs.report.numbers import rounded_usd, written
from routing.errors import NightrouteError
from routing.metrics import Floats
from routing.prices import SOURCE, price_snapshot
from routing.pricing import Unpriced
from routing.routers import OnnxRouter, WinRates

PAIR: Final = {"strong": "openai/gpt-4-turbo", "weak": "mistral/mixtral-8x7b"}
"""The pair of arXiv 2406.18665, as the price snapshot names it."""
MEASURED: Final = "Quality"
EXPECTED: Final = "Quality it expects"
PIECE: Final = 128
"""Prompts scored at once: the progress bar moves about once a second for the slowest router."""
SHOWN: Final = 1_000
"""Rows of the table of prompts: all of them would travel to the browser with every move of the slider."""

_MARKDOWN: Final = re.compile(r"([!-/:-@\[-`{-~])")
_LINKS: Final = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_JOINER: Final = "\N{WORD JOINER}"
"""Stands unseen where Streamlit would make a link even of escaped text."""
_ONE_A_LINE: Final = "One prompt a line"

Side = Literal["strong", "weak"]


def plain(text: str) -> str:
    """Return text as Markdown that shows it as it is: no picture is fetched, no link, no formula."""
    return _MARKDOWN.sub(r"\\\1", _LINKS.sub(_JOINER, " ".join(text.split())))


def page(routers: Sequence[str]) -> None:
    """Show the page.

    Args:
        routers: Artifacts beside the shipped ones.
    """
    st.set_page_config(page_title="nightroute demo", layout="wide")
    st.title("nightroute demo")
    st.caption("Prompts are scored on this machine. Nothing is sent to any model, and no key is needed.")
    try:
        _show(routers)
    except NightrouteError as error:
        st.error(plain(str(error)))


def _show(routers: Sequence[str]) -> None:
    offered = {offer.name: offer for offer in _offers(tuple(routers))}
    now = datetime.now(UTC)
    with st.sidebar:
        names = _ask_routers(offered)
        strong, weak = _ask_model("strong", now), _ask_model("weak", now)
        st.caption(
            f"Prices: {SOURCE}, as of {now:%Y-%m-%d}. Prompt tokens are counted by the first router's tokenizer."
        )
    asking, answering = st.columns([5, 7], gap="large")
    with asking:
        prompts = _ask_prompts()
    with answering:
        if prompts is None or prompts.rows.is_empty() or not names:
            st.info("Choose a router." if not names else "Give at least one prompt.")
            return
        rates, tokens = _scored({name: offered[name] for name in names}, prompts.texts)
        alpha = _ask_alpha(rates)
        costed = figures.costs(tokens, strong, weak, _prices(), at=now)
        _show_outcomes(prompts, rates, costed, alpha)
    _show_routes(prompts, rates, costed, alpha)
    _show_cards([offered[name] for name in names])


# ---- asking ---------------------------------------------------------------------------------------------------------


def _ask_routers(offered: Mapping[str, Offer]) -> list[str]:
    st.subheader("Routers")
    slow = "A transformer: bert-minilm scores about 100 prompts a second and core."
    return [
        name
        for name, offer in offered.items()
        if st.checkbox(
            plain(name),
            value=offer.chosen,
            key=f"router {name}",
            help=slow if offer.artifact.card.kind in SLOW else None,
        )
    ]


def _ask_model(side: Side, now: datetime) -> figures.Choice:
    """Ask for a model and the length of its answers, and say what it charges."""
    st.subheader(f"{side.capitalize()} model")
    names = _model_names(now.date().isoformat())
    labels = list(names)
    label: str | None = st.selectbox(
        f"Who answers as the {side} model",
        labels,
        index=labels.index(PAIR[side]) if PAIR[side] in names else 0,
        accept_new_options=True,
        label_visibility="collapsed",
    )
    tokens: int = st.number_input(
        f"Output tokens of a {side} answer (assumed)",
        min_value=1,
        value=int(Model.model_fields["expected_output_tokens"].default),
        help="Nobody is asked, so the length of the answers is an assumption. 264 is the mean of the RouteLLM paper.",
    )
    choice = figures.chosen(label or labels[0], names, tokens)
    rates = choice.rates(_prices(), now)
    if isinstance(rates, Unpriced):
        st.warning(plain(f"{rates.reason}: its cost is unknown, which is not $0"))
    else:
        into, out = (_dollars(rate) for rate in (rates.input_usd_per_mtok, rates.output_usd_per_mtok))
        st.caption(plain(f"{into} in, {out} out, per million tokens"))
    return choice


def _ask_prompts() -> data.Prompts | None:
    st.subheader("Prompts")
    source: str | None = st.radio(
        "Where from", ["Type them", "Drop a file"], horizontal=True, label_visibility="collapsed"
    )
    if source == "Drop a file":
        return _ask_file()
    text: str = st.text_area("Prompts", "\n".join(data.EXAMPLES), height=260, label_visibility="collapsed")
    form = st.radio("How to read them", [_ONE_A_LINE, "The whole text is one"], horizontal=True)
    prompts = data.typed(text, one_a_line=form == _ONE_A_LINE)
    st.caption(f"{len(prompts.rows):,} prompts. Ctrl+Enter scores them.")
    return prompts


def _ask_file() -> data.Prompts | None:
    file = st.file_uploader("Parquet, CSV or JSON lines; it stays on this machine", type=list(data.SUFFIXES))
    if file is None:
        return None
    held = st.session_state.get("table")
    if held is None or held[0] != file.file_id:
        held = st.session_state["table"] = (file.file_id, data.read_upload(file.name, file.getvalue()))
    table: pl.DataFrame = held[1]
    column: str = st.selectbox("Column with the prompts", data.text_columns(table, name=file.name))
    layout = data.label_layout(table)
    label = f"Use the grades of both answers (layout {layout})"
    if layout is not None and st.checkbox(label, value=True):
        prompts = _ask_labels(table, layout, column, file.name)
    else:
        prompts = data.unlabelled(table, column)
    at_most: int = st.selectbox(
        "Rows scored at most", data.ROWS, index=data.ROWS.index(data.DEFAULT_ROWS), format_func=lambda n: f"{n:,}"
    )
    drawn = data.drawn(prompts, at_most)
    told = [f"{prompts.given:,} rows", *(f"{count:,} {reason} left out" for reason, count in prompts.left_out.items())]
    if len(drawn.rows) < len(prompts.rows):
        told.append(f"{len(drawn.rows):,} of {len(prompts.rows):,} prompts drawn with seed {data.SEED}")
    else:
        told.append(f"{len(drawn.rows):,} prompts, all scored")
    st.caption("; ".join(told) + ".")
    return drawn


def _ask_labels(table: pl.DataFrame, layout: str, column: str, name: str) -> data.Prompts:
    models = data.labelled_models(table, layout)
    strong: str = st.selectbox("Strong model of the table", models) if models else ""
    weak: str = (
        st.selectbox("Weak model of the table", [model for model in models if model != strong]) if models else ""
    )
    largest = data.largest_score(table, layout)
    if largest > 1:
        largest = st.number_input("Largest grade; scores are divided by it", min_value=1.0, value=largest)
    return data.labelled(table, layout, column, name=name, strong=strong, weak=weak or "", largest=largest)


def _ask_alpha(rates: Mapping[str, Floats]) -> float:
    """Ask for alpha; what was chosen before is kept as far as it still means something."""
    low, high, start = figures.alpha_range(rates)
    st.session_state["alpha"] = min(max(float(st.session_state.get("alpha", start)), low), high)
    alpha: float = st.slider(
        "Cost threshold alpha: strong where the win rate is at least alpha",
        low,
        high,
        step=figures.ALPHA_STEP,
        format="%.3f",
        key="alpha",
        help="Win rates of two routers are not on one scale: the same alpha is another strong share.",
    )
    return round(alpha, 3)


# ---- working --------------------------------------------------------------------------------------------------------


def _scored(chosen: Mapping[str, Offer], texts: Sequence[str]) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Win rates of each router, and the lengths of the prompts in tokens of the first; from the cache where known."""
    starts = range(0, len(texts), PIECE)
    bar = st.progress(0.0) if len(starts) > 1 else None
    found: dict[str, list[WinRates]] = {name: [] for name in chosen}
    for place, (name, offer) in enumerate(chosen.items()):
        router = _router(offer.artifact.sha256, offer)
        for number, start in enumerate(starts):
            if bar is not None:
                done = (place + number / len(starts)) / len(chosen)
                bar.progress(done, f"{plain(name)}: {start:,} of {len(texts):,} prompts")
            found[name].append(_piece(offer.artifact.sha256, tuple(texts[start : start + PIECE]), router))
    if bar is not None:
        bar.empty()
    tokens = np.concatenate([piece.tokens for piece in next(iter(found.values()))])
    return {name: np.concatenate([piece.win_rate for piece in pieces]) for name, pieces in found.items()}, tokens


def _opened(sha256: str, _offer: Offer) -> OnnxRouter:  # the digest is the key of the cache
    return OnnxRouter(_offer.artifact)


def _score(sha256: str, texts: tuple[str, ...], _router: OnnxRouter) -> WinRates:
    return _router.win_rates(texts)


def _named(day: str) -> dict[str, tuple[str, str]]:
    return figures.model_names(_prices(), datetime.fromisoformat(day).replace(tzinfo=UTC))


_offers = st.cache_resource(show_spinner=False)(offers)
_router = st.cache_resource(show_spinner="Opening the router")(_opened)
_prices = st.cache_resource(show_spinner="Reading prices")(price_snapshot)
_model_names = st.cache_resource(show_spinner=False, max_entries=2)(_named)
_piece = st.cache_data(show_spinner=False, max_entries=2_000)(_score)
_apgr = st.cache_data(show_spinner="Resampling", max_entries=16)(figures.apgr)


# ---- showing --------------------------------------------------------------------------------------------------------


def _scores(prompts: data.Prompts, win_rates: Floats) -> tuple[Floats, Floats]:
    """Scores of the strong and the weak answers: the table's, or those that a router expects."""
    if not prompts.labelled:
        return figures.claim(win_rates)
    return prompts.rows["strong_score"].to_numpy(), prompts.rows["weak_score"].to_numpy()


def _show_outcomes(prompts: data.Prompts, rates: Mapping[str, Floats], costed: pl.DataFrame, alpha: float) -> None:
    """A card for each router, with its own curve where that is only a claim; one measured curve for all."""
    scores = {name: _scores(prompts, win_rates) for name, win_rates in rates.items()}
    curves = {name: figures.curve(win_rates, *scores[name], costed) for name, win_rates in rates.items()}
    marked = {name: curve.at(float((rates[name] >= alpha).mean())) for name, curve in curves.items()}
    lengths = costed["prompt_tokens"].to_numpy().astype(np.float64)
    by_length = {name: figures.curve(lengths, *scores[name], costed) for name in rates}
    dark = st.context.theme.type == "dark"
    for first, (name, win_rates) in enumerate(rates.items()):
        with st.container(border=True):
            quality = float(curves[name].quality[marked[name]])
            _show_outcome(name, figures.outcome(win_rates, costed, alpha), quality, labelled=prompts.labelled)
            if prompts.labelled:
                st.caption(plain(_measured(prompts, win_rates, lengths, curves[name], marked[name])))
                continue
            chart = curve_chart(
                {name: curves[name]},
                marked,
                length=by_length[name],
                alpha=alpha,
                quality=EXPECTED,
                first=first,
                dark=dark,
            )
            st.vega_lite_chart(chart)
    if prompts.labelled:
        length = next(iter(by_length.values()))
        st.vega_lite_chart(curve_chart(curves, marked, length=length, alpha=alpha, quality=MEASURED, dark=dark))
        st.caption("Measured: the mean score of the chosen answers, as this table grades them.")
    else:
        st.caption(
            "What a router expects is its own claim: the share of prompts whose chosen answer is the better one, "
            "if its win rates are right. A dropped table with the scores of both answers gives the measured curve."
        )
    with st.expander("The curves in numbers"):
        st.dataframe(figures.curve_table(curves, by_length, one_truth=prompts.labelled), hide_index=True)


def _show_outcome(name: str, made: figures.Outcome, quality: float, *, labelled: bool) -> None:
    st.markdown(f"**{plain(name)}**")
    saved = made.saved_share
    with st.container(horizontal=True):
        st.metric("Strong share", written(made.strong_share, "percent"), width="content")
        st.metric("Cost, modelled", _dollars(made.usd), width="content")
        st.metric("Saved", "unknown" if saved is None else written(saved, "percent"), width="content")
        st.metric(MEASURED if labelled else EXPECTED, _ratio(quality), width="content")
    whole = f"All strong {_dollars(made.all_strong_usd)}, all weak {_dollars(made.all_weak_usd)}"
    st.caption(
        plain(f"{made.n_strong:,} of {made.n:,} prompts go to the strong model. {whole}; saved is against all strong.")
    )


def _measured(prompts: data.Prompts, win_rates: Floats, lengths: Floats, curve: figures.Curve, point: int) -> str:
    """How much of the gap is recovered, beside the baselines."""
    scores = _scores(prompts, win_rates)
    found, by_length, pgr = _apgr(win_rates, *scores), _apgr(lengths, *scores), curve.pgr(point)
    if found is None or by_length is None or pgr is None:
        return "The strong model is not better on these prompts, so there is no gap to recover."
    share = float(curve.strong_share[point])
    return (
        f"Gap recovered at this alpha (PGR): {_ratio(pgr)}, at random {_ratio(share)}. "
        f"Over all alphas (APGR): {_ratio(found.value)} (95 %: {_ratio(found.low)} to {_ratio(found.high)}), "
        f"at random .500, {figures.LENGTH} {_ratio(by_length.value)}."
    )


def _show_routes(prompts: data.Prompts, rates: Mapping[str, Floats], costed: pl.DataFrame, alpha: float) -> None:
    st.subheader("Prompt by prompt")
    n = len(prompts.rows)
    shown = f"The first {SHOWN:,} of {n:,}. " if n > SHOWN else ""
    st.caption(f"{shown}Costs are modelled: counted prompt tokens, assumed answer tokens, list prices.")
    table = figures.routes(prompts.rows, costed, rates, alpha).head(SHOWN)
    formats = {
        column: st.column_config.NumberColumn(format="%.6f" if column.endswith("USD") else "%.4f")
        for column, dtype in table.schema.items()
        if dtype == pl.Float64
    }
    st.dataframe(
        table, hide_index=True, column_config={"prompt": st.column_config.TextColumn(width="large"), **formats}
    )


def _show_cards(chosen: Sequence[Offer]) -> None:
    with st.expander("What is known of these routers"):
        for offer in chosen:
            card = offer.artifact.card
            st.markdown(f"**{plain(offer.name)}**: {plain(card.description)}")
            st.caption(plain(f"Trained on: {card.trained_pair}. A win rate means the gap of this pair."))
            st.dataframe(pl.DataFrame([metric.model_dump() for metric in card.metrics]), hide_index=True)
            st.markdown("\n".join(f"- {plain(limit)}" for limit in card.limits))


def _dollars(usd: object) -> str:
    return "unpriced" if usd is None else rounded_usd(float(str(usd)))


def _ratio(value: float) -> str:
    return written(value, "ratio")
