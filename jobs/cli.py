"""The command line. Each command is a thin door to one module of `jobs`; heavy imports wait until a command runs."""

import logging
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="nightroute",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Route whole Parquet tables of LLM queries between a strong and a weak model, offline, with exact cost.",
    epilog="Exit codes: 0 done, 1 done but rows failed or a gate holds, 2 usage, 65 bad data, 66 missing input, "
    "70 a bug, 75 try again later, 78 bad config or credentials, 99 nothing to do, 130 interrupted (resumable).",
)

INTERRUPTED = 130

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Job config (TOML).")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a config value.")]
DateOption = Annotated[str | None, typer.Option("--date", help="Partition to run, e.g. 2026-11-20.")]
MaxUsdOption = Annotated[
    str | None, typer.Option("--max-usd", help="Stop sending before the run costs more than this.")
]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Send calls again that the endpoint failed.")]
UnsentOption = Annotated[
    bool,
    typer.Option("--publish-unsent", help="If the run stops early, publish what there is; rows not sent are marked."),
]
EmbedOption = Annotated[
    bool, typer.Option("--embed", help="Buy the embeddings that the router starts at, if it needs any.")
]
RunDirArgument = Annotated[Path, typer.Argument(help="Folder of a run (run_dir in its config).", metavar="RUN_DIR")]


@app.command()
def run(
    config: ConfigOption,
    overrides: SetOption = [],  # noqa: B006  # typer copies it
    date: DateOption = None,
    max_usd: MaxUsdOption = None,
    retry_failed: RetryOption = False,  # noqa: FBT002  # typer's way of a flag
    publish_unsent: UnsentOption = False,  # noqa: FBT002
) -> int:
    """Score, split, dispatch and publish a table; run again, it goes on where it was stopped."""
    from jobs.config import load_job
    from jobs.run import RunOptions
    from jobs.run import run as run_job

    job = load_job(config, overrides=_with_budget(overrides, max_usd), date=date)
    return run_job(job, RunOptions(retry_failed=retry_failed, publish_unsent=publish_unsent))


@app.command()
def plan(
    config: ConfigOption,
    overrides: SetOption = [],  # noqa: B006
    date: DateOption = None,
    embed: EmbedOption = False,  # noqa: FBT002
) -> int:
    """Score and split only: print counts per route, alpha, expected tokens, cost. No call is made, unless --embed."""
    from jobs.config import load_job
    from jobs.plan import plan as plan_job

    return plan_job(load_job(config, overrides=overrides, date=date), embed=embed)


@app.command()
def status(run_dir: RunDirArgument) -> int:
    """Print how far a run is."""
    from jobs.status import status as show_status

    return show_status(run_dir)


@app.command()
def resume(
    run_dir: RunDirArgument,
    overrides: SetOption = [],  # noqa: B006
    max_usd: MaxUsdOption = None,
    retry_failed: RetryOption = False,  # noqa: FBT002
    publish_unsent: UnsentOption = False,  # noqa: FBT002
) -> int:
    """Go on with a run that was stopped; its config is taken from the run folder."""
    from jobs.config import override_job
    from jobs.night import saved_job
    from jobs.run import RunOptions
    from jobs.run import run as run_job

    job = override_job(saved_job(run_dir), _with_budget(overrides, max_usd))
    options = RunOptions(command="resume", retry_failed=retry_failed, publish_unsent=publish_unsent)
    return run_job(job, options)


@app.command()
def resplit(
    run_dir: RunDirArgument,
    alpha: Annotated[float | None, typer.Option(help="New cost threshold, in [0, 1].")] = None,
    strong_share: Annotated[float | None, typer.Option(help="New strong share, in [0, 1].")] = None,
    split_usd: Annotated[str | None, typer.Option("--split-usd", help="New budget to split for.")] = None,
    order: Annotated[
        str | None, typer.Option(help="With --split-usd: win_rate or gain_per_usd; as before if left out.")
    ] = None,
    max_usd: MaxUsdOption = None,
    publish_unsent: UnsentOption = False,  # noqa: FBT002
) -> int:
    """Move the cut of a run: scores and paid answers are reused, only queries that change sides are sent."""
    from jobs.config import SplitSection, override_job
    from jobs.config_file import parse
    from jobs.night import saved_job
    from jobs.resplit import resplit as resplit_job
    from jobs.run import RunOptions

    job = override_job(saved_job(run_dir), _with_budget([], max_usd))
    before = job.config.split
    given = {"alpha": alpha, "strong_share": strong_share, "max_usd": split_usd, "history": before.history}
    given["order"] = order if split_usd is None else order or before.order
    section = parse(SplitSection, {key: value for key, value in given.items() if value is not None}, source="resplit")
    return resplit_job(job, section, RunOptions(command="resplit", publish_unsent=publish_unsent))


@app.command()
def sandbox(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Sandbox config (TOML).")] = None,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; 0 picks a free one.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Parquet of recorded answers: prompt, model, response.")] = None,
    journal: Annotated[str | None, typer.Option(help="JSONL file of every request, or `none`.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides made-up answers and faults.")] = None,
    overrides: SetOption = [],  # noqa: B006
) -> int:
    """Serve an OpenAI-compatible API on loopback: answers, token counts, limits and faults, no key needed."""
    from jobs.config_file import apply_override, parse, read_toml
    from jobs.sandbox import run_sandbox
    from routing.sandbox.config import SandboxConfig

    data = {} if config is None else read_toml(config)
    given = {"port": port, "replay": replay, "journal": journal, "seed": seed}
    data |= {key: value for key, value in given.items() if value is not None}
    for override in overrides:
        apply_override(data, override)
    return run_sandbox(parse(SandboxConfig, data, source=str(config or "sandbox")))


@app.command()
def inspect(
    artifact: Annotated[str, typer.Argument(help="`builtin:NAME`, or the folder of a router.", metavar="ARTIFACT")],
) -> int:
    """Verify a router's files and print its card: what it was trained on, how good it is, what it cannot do."""
    from jobs.card import show_card

    return show_card(artifact)


@app.command()
def train(
    config: Annotated[Path, typer.Option("--config", "-c", help="Training config (TOML).")],
    output: Annotated[Path | None, typer.Option(help="Folder of the artifact instead of the config's.")] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints (mf, bert, causal_llm); a killed fit goes on from there.")
    ] = None,
) -> int:
    """Train a router and export it as an ONNX artifact; needs the extra `train`."""
    from jobs import console
    from jobs.train import show
    from jobs.train import train as train_router

    summary = train_router(config, output=output, checkpoints=checkpoints)
    show(summary)
    console.emit(summary.record() | {"status": "trained", "exit_code": 0})
    return 0


@app.command()
def study(
    config: Annotated[Path, typer.Option("--config", "-c", help="Study config (TOML).")],
    output: Annotated[Path | None, typer.Option(help="Folder of the results instead of the config's.")] = None,
) -> int:
    """Measure what preferences, golden labels and labels of a benchmark are worth to each kind of router."""
    from jobs import console
    from jobs.study import study as study_job

    summary = study_job(config, output=output)
    console.emit(summary.record() | {"status": "studied", "exit_code": summary.exit_code})
    return summary.exit_code


@app.command()
def label(
    config: Annotated[Path, typer.Option("--config", "-c", help="Labelling config (TOML).")],
    golden: Annotated[
        str | None, typer.Option(help="Column with the right answers; no judge is asked.", metavar="COLUMN")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the expected cost; make no call.")] = False,  # noqa: FBT002
    overrides: SetOption = [],  # noqa: B006
    date: DateOption = None,
    max_usd: MaxUsdOption = None,
    retry_failed: RetryOption = False,  # noqa: FBT002
    publish_unsent: UnsentOption = False,  # noqa: FBT002
) -> int:
    """Label a sample of a table for training: both models answer, a judge compares them in both orders."""
    from jobs.label import LabelOptions
    from jobs.label import label as label_job
    from jobs.label_config import load_label

    job = load_label(config, overrides=_with_budget(overrides, max_usd), golden=golden, date=date)
    options = LabelOptions(dry_run=dry_run, retry_failed=retry_failed, publish_unsent=publish_unsent)
    return label_job(job, options)


@app.command()
def evaluate(
    config: Annotated[Path, typer.Option("--config", "-c", help="Evaluation config (TOML).")],
    overrides: SetOption = [],  # noqa: B006
) -> int:
    """Measure routers on benchmarks or your own labels: quality, cost, intervals, beside random, length and oracle."""
    from jobs import console
    from jobs.evaluate import evaluate as evaluate_routers
    from jobs.evaluate import show
    from jobs.evaluate_config import load_evaluation

    summary = evaluate_routers(load_evaluation(config, overrides=overrides))
    show(summary)
    console.emit(summary.record() | {"status": "evaluated", "exit_code": 0})
    return 0


@app.command()
def calibrate(
    config: Annotated[Path, typer.Option("--config", "-c", help="Calibration config (TOML).")],
    overrides: SetOption = [],  # noqa: B006
    date: DateOption = None,
) -> int:
    """Find alpha for a strong share, a budget or a quality target with confidence; calibrate win rates on labels."""
    from jobs.calibrate import calibrate as calibrate_job
    from jobs.calibrate_config import load_calibrate

    return calibrate_job(load_calibrate(config, overrides=overrides, date=date))


@app.command()
def audit(
    config: Annotated[Path, typer.Option("--config", "-c", help="Audit config (TOML).")],
    overrides: SetOption = [],  # noqa: B006
    date: DateOption = None,
    fail_if: Annotated[
        list[str], typer.Option("--fail-if", metavar="GATE", help="Exit 1 where this holds, e.g. 'saving_share < 0.2'.")
    ] = [],  # noqa: B006
) -> int:
    """Audit a log of calls: can it be trusted, what was paid, what would routing have cost and been worth."""
    from jobs.audit import audit as audit_job
    from jobs.audit_config import load_audit

    return audit_job(load_audit(config, overrides=overrides, date=date), fail_if=fail_if)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(help="Folder of a run, an audit or an evaluation.", metavar="RUN_DIR")],
    output: Annotated[
        Path | None, typer.Option(help="Where to write the page; else report.html in the folder.")
    ] = None,
    groups: Annotated[
        list[str], typer.Option("--group", metavar="COLUMN", help="Column of a run's table to show costs by.")
    ] = [],  # noqa: B006
) -> int:
    """Write the page of a run: one self-contained HTML file with costs, routes, errors and a slider over alpha."""
    from jobs.reporting import report as write_report

    return write_report(path, output=output, groups=groups)


@app.command()
def demo(
    routers: Annotated[
        list[str], typer.Option("--router", metavar="ARTIFACT", help="Another router: the folder of an artifact.")
    ] = [],  # noqa: B006
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; a free one if left out.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,  # noqa: FBT002
) -> int:
    """Try routers in the browser, offline: win rates, routes and costs of typed prompts or a table (extra `demo`)."""
    from jobs.demo import demo as show_demo

    return show_demo(routers=routers, port=port, open_browser=open_browser)


@app.command("import-routellm")
def import_routellm(
    path: Annotated[Path, typer.Argument(help="Folder of the checkpoint, as downloaded from the hub.", metavar="PATH")],
    kind: Annotated[str | None, typer.Option(help="mf, bert or causal_llm; told from the files if left out.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the artifact.")] = None,
    name: Annotated[str | None, typer.Option(help="Name on the card.")] = None,
    strong: Annotated[str | None, typer.Option(help="mf: name of the strong model, as RouteLLM lists it.")] = None,
    weak: Annotated[str | None, typer.Option(help="mf: name of the weak model.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Table of at least 1,000 real prompts to compare on (bert, causal_llm).")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the checkpoint, for the card.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize the weights (bert, causal_llm).")] = False,  # noqa: FBT002
) -> int:
    """Turn a checkpoint that RouteLLM published (safetensors only) into a router; needs the extra `train`."""
    from jobs import console
    from jobs.import_routellm import ImportOptions
    from jobs.import_routellm import import_routellm as import_checkpoint

    given = {
        "kind": kind, "output": output, "name": name, "strong": strong, "weak": weak, "prompts": prompts,
        "licence": licence,
    }  # fmt: skip
    options = ImportOptions(**{key: value for key, value in given.items() if value is not None}, int8=int8)  # type: ignore[arg-type]
    console.emit(import_checkpoint(path, options) | {"status": "imported", "exit_code": 0})
    return 0


def _with_budget(overrides: list[str], max_usd: str | None) -> list[str]:
    from routing.errors import UsageError

    if max_usd is None:
        return overrides
    try:
        Decimal(max_usd)
    except ArithmeticError as error:
        raise UsageError(f"--max-usd wants dollars, got {max_usd!r}") from error
    return [*overrides, f'budget.max_usd="{max_usd}"']


def main(args: list[str] | None = None) -> None:
    """Run a command and exit with its code; errors made for people are shown without a traceback."""
    from jobs.interrupting import interruptible

    with interruptible():
        code = invoke(sys.argv[1:] if args is None else args)
    sys.exit(code)


def invoke(args: list[str]) -> int:
    """Run a command; returns the exit code of DESIGN section 9."""
    from routing.errors import NightrouteError

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        result: Any = app(args, prog_name="nightroute", standalone_mode=False)
    except NightrouteError as error:
        return _stopped(error)
    except typer.TyperException as error:
        return _misused(error)
    except SystemExit as error:
        return int(error.code or 0)
    except Exception as error:
        logging.getLogger("nightroute").critical("this is a bug in nightroute; please report it", exc_info=error)
        return 70
    if result == INTERRUPTED:
        return _interrupted()
    return result if isinstance(result, int) else 0


def _interrupted() -> int:
    """Ctrl-C or SIGTERM outside of dispatch, where nothing is in flight: typer turns it into this exit code."""
    from jobs import console

    message = "interrupted; run the same command again to go on"
    console.say(f"error: {message}")
    console.emit({"status": "stopped", "exit_code": INTERRUPTED, "error": message})
    return INTERRUPTED


def _stopped(error: Any) -> int:
    from jobs import console

    kind = "nothing to do" if error.exit_code == 99 else "error"  # DESIGN section 9
    console.say(f"{kind}: {error}")
    console.emit({"status": "stopped", "exit_code": error.exit_code, "error": str(error)})
    return int(error.exit_code)


def _misused(error: typer.TyperException) -> int:
    """A command line that cannot be understood; without a message the help was shown instead."""
    from jobs import console

    message = error.format_message()
    if message:
        console.say(f"error: {message}; see nightroute --help")
    console.emit({"status": "stopped", "exit_code": error.exit_code, "error": message})
    return error.exit_code
