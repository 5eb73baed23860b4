from pathlib import Path

import pytest

from tests.unit.sandbox.support import save_word_tokenizer


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts words and punctuation marks, so that tests can count by eye."""
    return save_word_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
