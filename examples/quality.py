"""Make every table of docs/results/quality.md: `make evaluate`.

Runs the studies of labels and the evaluation of the shipped routers, and writes one report with all of them into
out/quality: quality.md, report.json, report.html. Finished cells and win rates are kept in out/, so that a second run
is quick; delete out/ to begin anew. `--page FILE` also writes the Markdown there.
"""

import argparse
import sys
from pathlib import Path

from jobs.console import say
from jobs.evaluate import evaluate
from jobs.evaluate_config import load_evaluation
from jobs.evaluate_markdown import markdown
from jobs.report.evaluation import evaluation_page
from jobs.study import study
from schemas.evaluation import EvaluationReport

EXAMPLES = Path(__file__).parent
OUT = EXAMPLES.parent / "out" / "quality"
STUDIES = ("study-targets.toml", "study.toml")
GPU_STUDY = EXAMPLES.parent / "docs" / "results" / "study-gpu.json"
"""What `nightroute study --config examples/study-gpu.toml` wrote on a machine with an H100."""


def main() -> int:
    """Run everything; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="write the tables as this Markdown page")
    given = parser.parse_args()
    studies = []
    for name in STUDIES:
        say(f"study {name}")
        studies.append(study(EXAMPLES / name).report)
    studies.append(EvaluationReport.model_validate_json(GPU_STUDY.read_text("utf-8")))
    say("evaluation of the shipped routers")
    found = evaluate(load_evaluation(EXAMPLES / "evaluate.toml")).report
    report = found.model_copy(
        update={
            "label_study": [row for one in studies for row in one.label_study],
            "notes": list(dict.fromkeys(note for one in (found, *studies) for note in one.notes)),
        }
    )
    page = PAGE + markdown(report).partition("\n")[2]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "quality.md").write_text(page, "utf-8")
    (OUT / "report.json").write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    (OUT / "report.html").write_text(evaluation_page(report), "utf-8")
    if given.page is not None:
        given.page.write_text(page, "utf-8")
    say(f"wrote {OUT}")
    return 0


PAGE = """# Quality: what the routers can do

Written by `make evaluate` (`python examples/quality.py --page docs/results/quality.md`) from ../shared/data. The
targets, what was missed and what was tried: [decision 0025](../decisions/0025-quality-targets.md). The rows `bert` and
`causal_llm` of the study were fitted on an H100 (`nightroute study --config examples/study-gpu.toml`,
[study-gpu.json](study-gpu.json)), all else on the machine named below, in 35 to 72 minutes with set-up, by what else
ran on it; a second run takes three minutes, because win rates and finished cells are kept in out/ (delete it to begin
anew).

Transfer has two halves. No model of `helm_mmlu` stood for the weak side in training. On `mmlu_pro`, what is left are
its questions from MMLU, but `static-mf` and `bert-minilm` learned from answers of the same models to other questions
of it.
"""


if __name__ == "__main__":
    sys.exit(main())
