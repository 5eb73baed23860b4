"""Golden labels: is an answer the one that the reference gives? Vectorized; no call is made."""

from typing import Final, Literal

import polars as pl

Match = Literal["exact", "numeric", "multiple_choice"]

CHOICES: Final = "A-J"
"""Letters of a multiple-choice question; MMLU-Pro has the most, ten."""

_NUMBER: Final = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+"
_BOXED: Final = r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}"

_END: Final = r"(?:\s*(?:[^\w\s']|$)|\s*\n|\s+(?i:because|since)\b)"
"""What follows a letter that is said to be the answer: "the answer is I think B" and "is A dog" say none."""


def score(answer: pl.Expr, reference: pl.Expr, match: Match) -> pl.Expr:
    """Grade answers: 1.0 where they match, else 0.0; null where the reference holds nothing to compare with.

    An answer that holds nothing readable is wrong, a reference that does not is nobody's fault.

    Args:
        answer: Text of the model.
        reference: Text of the golden column.
        match: `exact`: equal but for case and white space. `numeric`: the last numbers are equal. `multiple_choice`:
            the chosen letters are equal.
    """
    read = {"exact": normalized, "numeric": last_number, "multiple_choice": choice}[match]
    wanted = read(reference)
    matches = (read(answer) == wanted).fill_null(value=False)
    return pl.when(wanted.is_not_null()).then(matches.cast(pl.Float64))


def normalized(text: pl.Expr) -> pl.Expr:
    """Lower case, one space for any white space, none at the ends; null for blank text."""
    plain = text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(plain != "").then(plain)


def last_number(text: pl.Expr) -> pl.Expr:
    r"""Read the last number as Float64: of the last `\boxed{...}` where there is one, else of the whole text.

    `1,234.5`, `$1,234`, `-3`, `2e3`, LaTeX's `1{,}234` and a Unicode minus are read; a sign right after a digit
    (`10-3`) is a minus between numbers. Null where there is none. Fractions are not read as such.
    """
    plain = (
        pl.coalesce(_last(text, _BOXED), text)
        .str.replace_all("\u2212", "-", literal=True)
        .str.replace_all(r"\{,\}", ",")
        .str.replace_all(r"\\[,!; ]|[$€£]", "")
        .str.replace_all(r"(\d)[-+]", "${1} ")
    )
    number = plain.str.extract_all(_NUMBER).list.last().str.replace_all(",", "", literal=True)
    return number.cast(pl.Float64, strict=False)


def choice(text: pl.Expr) -> pl.Expr:
    r"""Read the chosen letter, A to J, in this order of trust.

    The last `\boxed{B}`; the last "answer is B", "answer: (B)"; a text that is a letter, or begins with one in
    parentheses, brackets or bold (`b`, `(B) Paris`); the last letter in parentheses or bold; a text that begins with
    a letter and its mark (`B. Paris`). Null where there is none: a bare "A" or "I" inside a sentence is a word.
    """
    boxed = _last(text, rf"\\boxed\s*\{{\s*(?:\\text\s*\{{\s*)?\(?([{CHOICES}{CHOICES.lower()}])\)?[\s}}]*\}}")
    said = _last(text, rf"(?i:answer)(?i:\s+is)?\s*[:=]?\s*(?i:option\s+|choice\s+)?[(\[*\s]*([{CHOICES}]){_END}")
    alone = text.str.extract(rf"^[\s(\[*\"']*([{CHOICES}{CHOICES.lower()}])[\s)\].*\"']*$")
    opened = text.str.extract(rf"^\s*(?:\(|\[|\*\*)[(\[*]*([{CHOICES}])[.):\]*]")
    marked = _last(text, rf"(?:\(|\*\*)([{CHOICES}])(?:\)|\*\*)")
    first = text.str.extract(rf"^\s*([{CHOICES}])[.):\]*]")
    return pl.coalesce(boxed, said, alone, opened, marked, first).str.to_uppercase()


def _last(text: pl.Expr, pattern: str) -> pl.Expr:
    """Group 1 of the last match; null without one."""
    return text.str.extract_all(pattern).list.last().str.extract(pattern)
