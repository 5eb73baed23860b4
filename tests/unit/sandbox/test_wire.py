import json
from typing import Any

import pytest

from routing.sandbox.wire import ApiError, read_chat, read_embeddings
from tests.unit.sandbox.support import ask


def chat(payload: object) -> Any:
    return read_chat(json.dumps(payload).encode())


def test_the_last_user_message_is_the_query() -> None:
    roles = ["system", "user", "assistant", "user", "tool"]
    messages = [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]
    request = chat({"model": "m", "messages": messages})
    assert request.query == "user 3"
    assert request.contents == ["system 0", "user 1", "assistant 2", "user 3", "tool 4"]


def test_text_parts_are_joined_and_a_tool_call_has_no_text() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None, "tool_calls": []}]
    assert chat({"model": "m", "messages": messages}).contents == ["What is this?", ""]


def test_without_a_user_the_last_message_is_the_query() -> None:
    assert chat({"model": "m", "messages": [{"role": "system", "content": "Hello."}]}).query == "Hello."


def test_the_fingerprint_tells_messages_apart() -> None:
    def fingerprint(*messages: tuple[str, str]) -> bytes:
        listed = [{"role": role, "content": content} for role, content in messages]
        digest: bytes = chat({"model": "m", "messages": listed}).fingerprint
        return digest

    conversations = [
        (("user", "ab"),), (("system", "ab"),), (("user", "a"), ("user", "b")), (("user", "b"), ("user", "a")),
        (("user", "a\0b"),),
    ]  # fmt: skip
    assert len({fingerprint(*conversation) for conversation in conversations}) == len(conversations)


def test_max_completion_tokens_wins_over_the_old_name() -> None:
    assert chat(ask(max_tokens=5)).max_tokens == 5
    assert chat(ask(max_tokens=5, max_completion_tokens=7)).max_tokens == 7
    assert chat(ask(max_tokens=None)).max_tokens is None


@pytest.mark.parametrize(
    ("payload", "param", "message"),
    [
        (ask(stream=True), "stream", "does not stream"),
        (ask(n=2), "n", "one choice"),
        (ask(max_tokens=0), "max_tokens", "at least 1, got 0"),
        (ask(max_tokens=True), "max_tokens", "integer"),
        (ask(max_completion_tokens="9"), "max_completion_tokens", "integer"),
        (ask(7), "messages.[0].content", "string"),
        (ask(None), "messages.[0].content", "string"),
        (ask([{"type": "image_url", "image_url": {}}]), "messages.[0].content", "text parts only"),
        (ask(["text"]), "messages.[0].content", "text parts only"),
        (ask("\ud800"), "messages.[0].content", "surrogate"),
        ({"model": "m", "messages": []}, "messages", "at least one"),
        ({"model": "m"}, "messages", "at least one"),
        ({"model": "m", "messages": ["hello"]}, "messages.[0]", "object"),
        ({"messages": [{"role": "user", "content": "hello"}]}, None, "model parameter"),
        ([], None, "JSON object, got list"),
    ],
)
def test_a_wrong_request_names_its_param(payload: object, param: str | None, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        chat(payload)
    error = json.loads(caught.value.body())["error"]
    assert caught.value.status == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_not_json_is_said_to_be_so(body: bytes) -> None:
    with pytest.raises(ApiError, match="could not parse the JSON body"):
        read_chat(body)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a b", ["a b"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1, 2], [3]], [[1, 2], [3]])],
)
def test_all_four_kinds_of_embedding_input_are_read(given: object, inputs: list[object]) -> None:
    assert read_embeddings(json.dumps({"model": "m", "input": given}).encode()).inputs == inputs


@pytest.mark.parametrize(
    "given", ["", [], None, 5, [""], ["a", 5], [1, "a"], [[]], [True], [-1], [[1], "a", []], "\udc00"]
)
def test_other_embedding_inputs_are_refused(given: object) -> None:
    with pytest.raises(ApiError) as caught:
        read_embeddings(json.dumps({"model": "m", "input": given}).encode())
    assert caught.value.status == 400
    assert json.loads(caught.value.body())["error"]["param"] == "input"


def test_an_unknown_embedding_format_is_refused() -> None:
    with pytest.raises(ApiError, match="'float' or 'base64'"):
        read_embeddings(b'{"model": "m", "input": "a", "encoding_format": "hex"}')
