import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "cost.md"


def test_the_example_of_the_cost_page_holds() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    exec(compile(example, str(DOCS), "exec"), {})
