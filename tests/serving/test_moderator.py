import asyncio
from pathlib import Path

from moderation import Classifier
from moderation.inference.classifier import TextResult
from moderation.serving.metrics import Metrics
from moderation.serving.moderator import Moderator
from moderation.serving.problems import ApiProblem

N_TEXTS = 1000


def test_a_burst_is_refused_before_it_is_tokenised(tiny_bundle: Path) -> None:
    async def burst(moderator: Moderator) -> list[TextResult | BaseException]:
        reading = [moderator.read([f"comment {number} of a burst"]) for number in range(N_TEXTS)]
        found = await asyncio.gather(*reading, return_exceptions=True)
        return [answer if isinstance(answer, BaseException) else answer[0] for answer in found]

    moderator = Moderator(
        Classifier.load(tiny_bundle, threads=1), Metrics(), max_wait_s=1e-3, timeout_s=30, cache_texts=0
    )
    answers = asyncio.run(burst(moderator))
    answered = sum(isinstance(answer, TextResult) for answer in answers)
    refused = sum(isinstance(answer, ApiProblem) and answer.status == 429 for answer in answers)
    assert answered + refused == N_TEXTS
    assert 0 < answered < N_TEXTS / 2
    again = asyncio.run(moderator.read(["what was let in was worked off"]))
    assert len(again) == 1
    moderator.close()
