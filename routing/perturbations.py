r"""Changes of a prompt that leave its meaning alone: case, white space, a greeting, a word of thanks.

A router that changes its mind over them routes by the form of a prompt. None needs a paraphrase, so none can change the
question by accident, save that `a` and `A` may differ inside code.
"""

from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

Perturbation = Callable[[pl.Expr], pl.Expr]
"""Prompts as a String expression, to prompts."""


def upper_case(prompt: pl.Expr) -> pl.Expr:
    """All capitals."""
    return prompt.str.to_uppercase()


def lower_case(prompt: pl.Expr) -> pl.Expr:
    """No capitals."""
    return prompt.str.to_lowercase()


def title_case(prompt: pl.Expr) -> pl.Expr:
    """A capital at each word."""
    return prompt.str.to_titlecase()


def double_spaces(prompt: pl.Expr) -> pl.Expr:
    """Two spaces for each one."""
    return prompt.str.replace_all(" ", "  ", literal=True)


def single_spaces(prompt: pl.Expr) -> pl.Expr:
    """One space between words where there were more; the indentation of lines stays."""
    return prompt.str.replace_all(r"(\S) {2,}", "${1} ")


def trimmed(prompt: pl.Expr) -> pl.Expr:
    """No white space at either end."""
    return prompt.str.strip_chars()


def trailing_newline(prompt: pl.Expr) -> pl.Expr:
    r"""One `\n` more at the end."""
    return prompt + "\n"


def trailing_spaces(prompt: pl.Expr) -> pl.Expr:
    """Three spaces more at the end."""
    return prompt + "   "


def thanks(prompt: pl.Expr) -> pl.Expr:
    """A last line that says thanks."""
    return prompt + "\n\nThanks!"


def please(prompt: pl.Expr) -> pl.Expr:
    """A last line that asks for an answer."""
    return prompt + "\n\nPlease answer the above."


def greeting(prompt: pl.Expr) -> pl.Expr:
    """A first line that says hello."""
    return pl.lit("Hello!\n\n") + prompt


PERTURBATIONS: Final[Mapping[str, Perturbation]] = {
    change.__name__: change
    for change in (
        upper_case,
        lower_case,
        title_case,
        double_spaces,
        single_spaces,
        trimmed,
        trailing_newline,
        trailing_spaces,
        thanks,
        please,
        greeting,
    )
}
"""Name -> change."""
