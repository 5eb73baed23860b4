import asyncio
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.ledger import Ledger
from tests.fakes import answered, refused, send

# One attempt: which call, and what came of it: no reply before the kill, a failure to retry, an error, an answer.
attempts = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["lost", "retry", "error", "answer"])), max_size=25
)


@settings(max_examples=25)
@given(attempts=attempts, reopened=st.sets(st.integers(0, 25), max_size=3), together=st.booleans())
def test_the_ledger_remembers_every_attempt_however_often_it_is_reopened(
    attempts: list[tuple[str, str]], reopened: set[int], together: bool
) -> None:
    async def record(ledger: Ledger, numbered: list[tuple[int, str, str]]) -> None:
        async def one(number: int, key: str, outcome: str) -> None:
            sending = send(key, attempt=number)
            send_id = await ledger.sent(sending)
            if outcome != "lost":
                reply = answered(str(number)) if outcome == "answer" else refused(500)
                error_code = None if outcome == "answer" else "server_error"
                await ledger.replied(send_id, sending, reply, ends=outcome != "retry", error_code=error_code)

        if together and len({key for _, key, _ in numbered}) == len(numbered):
            await asyncio.gather(*(one(*attempt) for attempt in numbered))
        else:
            for attempt in numbered:
                await one(*attempt)

    numbered = [(number, *attempt) for number, attempt in enumerate(attempts)]
    edges = [0, *sorted(reopened), len(numbered)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        for start, stop in pairwise(edges):
            with Ledger(path) as ledger:
                asyncio.run(record(ledger, numbered[start:stop]))
        with Ledger(path) as ledger:
            latest = {key: (n, outcome) for n, key, outcome in numbered if outcome in ("error", "answer")}
            decided = {key: None if outcome == "answer" else "server_error" for key, (_, outcome) in latest.items()}
            assert dict(ledger.ended(0).iter_rows()) == decided
            bodies = {key: str(n) if outcome == "answer" else None for key, (n, outcome) in latest.items()}
            assert dict(ledger.replies(0).select("call_key", "body").iter_rows()) == bodies
            assert dict(ledger.sends(0).iter_rows()) == Counter(key for key, _ in attempts)
            assert sorted(ledger.paid(0)["body"]) == sorted(str(n) for n, _, outcome in numbered if outcome == "answer")
            lost = Counter(f"id-{key}" for key, outcome in attempts if outcome == "lost")
            assert Counter(ledger.unknown()["query_id"]) == lost
