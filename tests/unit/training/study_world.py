"""A made study on disk: the world of `router_world`, whose exam lends its labels, and a study of a few kinds."""

from pathlib import Path

import polars as pl

from tests.unit.training import router_world

SIBLINGS = 30
"""Prompts of the exam that are another one of its prompts and a word."""
PAIR = 'path = "exam.parquet"\nstrong = "the-strong"\nweak = "the-weak"\n'
BENCHMARKS = {
    "samples": f'[[benchmarks]]\nname = "samples"\n{PAIR}sizes = [60, 150]\ndraws = 2\n',
    "folds": f'[[benchmarks]]\nname = "folds"\n{PAIR}folds = 3\nnote = "made up"\n',
    "unlabelled": f'[[benchmarks]]\nname = "unlabelled"\n{PAIR}max_prompts = 200\n',
}
ARMS = {
    "preferences": 'sources = ["battles"]',
    "preferences + golden": 'sources = ["battles", "made"]',
    "in-domain": "in_domain = true",
    "no siblings": 'in_domain = true\nsiblings = "drop"',
    "golden + in-domain": 'sources = ["made"]\nin_domain = true\nweight = 4.0',
}


def write(folder: Path, encoder: Path) -> None:
    """Write data/ and common.toml; the exam has siblings."""
    router_world.write(folder, encoder)
    path = folder / "data" / "exam.parquet"
    exam = pl.read_parquet(path)
    long = exam["prompt"].unique(maintain_order=True)
    long = long.filter(long.str.split(" ").list.len() > 12).head(SIBLINGS)
    again = exam.filter(pl.col("prompt").is_in(long.implode())).with_columns(pl.col("prompt") + " w7")
    pl.concat([exam, again]).write_parquet(path)


def two_tiers(*arms: str) -> str:
    """What `sw` needs on arms where only the pair fights."""
    return "per_arm = { " + ", ".join(f'"{arm}" = {{ fit = {{ tiers = 2 }} }}' for arm in arms) + " }\n"


def config(
    folder: Path,
    kinds: dict[str, str],
    *,
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS),
    arms: tuple[str, ...] = tuple(ARMS),
    extra: str = "",
    name: str = "study",
) -> Path:
    """Write a study.

    Args:
        folder: With data/ and common.toml.
        kinds: Kind of router -> what its entry in the study says besides.
        benchmarks: Of `BENCHMARKS`.
        arms: Of `ARMS`.
        extra: At the top.
        name: Of the file.
    """
    parts = [f'name = "made"\noutput = "out"\ndata = "data"\nresamples = 100\n{extra}']
    parts += [BENCHMARKS[one] for one in benchmarks]
    parts += [f'[[arms]]\nname = "{one}"\n{ARMS[one]}\n' for one in arms]
    for kind, more in kinds.items():
        path = router_world.config(folder, kind, name=kind)
        parts.append(f'[[kinds]]\nname = "{kind}"\nconfig = "{path.name}"\n{more}')
    path = folder / f"{name}.toml"
    path.write_text("\n".join(parts))
    return path


def replace(path: Path, old: str, new: str) -> None:
    """Change a file that holds `old`."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
