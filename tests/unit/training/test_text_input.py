import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from routing.training.text_input import TextInput
from schemas.artifact import Truncation


def tokenizer(normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    made = Tokenizer(models.WordLevel({"[UNK]": 0} | {f"w{i}": i for i in range(1, 20)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalizer is not None:
        made.normalizer = normalizer
    return made


@pytest.mark.parametrize(
    ("normalizer", "lowercase"),
    [(None, False), (normalizers.NFC(), False), (normalizers.Lowercase(), True), (normalizers.BertNormalizer(), True)],
)
def test_whether_case_counts_is_asked_of_the_tokenizer(
    normalizer: normalizers.Normalizer | None, lowercase: bool
) -> None:
    assert TextInput(tokenizer(normalizer), Truncation(head=1, tail=0)).lowercase is lowercase


def test_the_cut_keeps_both_ends_and_the_frame_comes_after_it() -> None:
    text = TextInput(tokenizer(), Truncation(head=3, tail=2), prefix=(18,), suffix=(19, 17))
    rows = text.tokens(["w1 w2 w3 w4 w5 w6 w7", "w1 w2 w3 w4 w5", "what", ""])
    assert [row.tolist() for row in rows] == [
        [18, 1, 2, 3, 6, 7, 19, 17],
        [18, 1, 2, 3, 4, 5, 19, 17],
        [18, 0, 19, 17],
        [18, 19, 17],
    ]
    assert {str(row.dtype) for row in rows} == {"int64"}
    bare = TextInput(tokenizer(), Truncation(head=3, tail=0)).tokens(["w1 w2 w3 w4", ""])
    assert [row.tolist() for row in bare] == [[1, 2, 3], []]
