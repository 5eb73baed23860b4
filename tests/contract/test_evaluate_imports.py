"""An evaluation runs where the nightly job runs: without the training stack."""

from tests.contract.test_imports import HEAVY, loaded_by


def test_an_evaluation_needs_no_training_stack() -> None:
    statement = "import jobs.evaluate, jobs.evaluate_read, jobs.evaluate_extras"
    assert not loaded_by(statement) & (HEAVY - {"tenacity", "openai"})
