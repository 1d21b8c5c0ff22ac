"""Whom the word lists may ask about a pair of phrases: a language model, or a cross-encoder for inference."""

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

Judge = Callable[[str, str], bool]


class ChatModel(Protocol):
    """Anything that answers a chat."""

    def reply(self, messages: Sequence[dict[str, str]]) -> str:
        """The answer's text."""
        ...


_QUESTION = (
    "Two phrases describe what can be seen of things in images:\n1. {first}\n2. {second}\n"
    "Do they contradict each other, so that one and the same thing could not be described by both? "
    "Answer with the single word yes or no."
)


def chat_judge(chat: ChatModel) -> Judge:
    """A judge that asks a language model; it is asked once for each pair.

    Args:
        chat: Anything that answers a chat, such as `description_writer.EndpointModel`.
    """

    @functools.cache
    def judge(first: str, second: str) -> bool:
        question = _QUESTION.format(first=first, second=second)
        return chat.reply([{"role": "user", "content": question}]).strip().lower().startswith("yes")

    return judge


def cross_encoder_judge(model: str, *, certainty: float = 0.9) -> Judge:
    """A judge that loads a cross-encoder for natural-language inference with sentence-transformers.

    Contradiction has no direction, models have: both orders of a pair must reach the certainty.

    Args:
        model: Folder or Hub id of a model with a label "contradiction".
        certainty: Least probability of a contradiction, between 0 and 1. Such models are trained on sentences, and
            of two short phrases without a contradiction many call one likely.

    Raises:
        ImportError: sentence-transformers is not installed.
        ValueError: The model has no such label.
    """
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise ImportError(
            'A cross-encoder as judge needs sentence-transformers: `pip install "prolab_hf[sentence-transformers]"`.'
        ) from error
    encoder = CrossEncoder(model)
    labels = {str(label).lower(): int(index) for index, label in encoder.config.id2label.items()}
    if "contradiction" not in labels:
        raise ValueError(
            f"{model} judges {', '.join(labels)}; a judge needs a model with a label 'contradiction'."
        )

    @functools.cache
    def judge(first: str, second: str) -> bool:
        pairs = [(first, second), (second, first)]
        shares = encoder.predict(pairs, apply_softmax=True, show_progress_bar=False)
        return bool(shares[:, labels["contradiction"]].min() >= certainty)

    return judge
