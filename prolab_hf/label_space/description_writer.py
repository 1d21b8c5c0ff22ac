"""Asking a language model for descriptions: an OpenAI-compatible endpoint or a local transformers model."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from prolab_hf.label_space.description_prompt import (
    ChosenWords,
    DescriptionCache,
    DescriptionRules,
    Message,
    VocabularyRules,
    accepted_choice,
    accepted_descriptions,
    description_messages,
    vocabulary_messages,
)

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class ChatModel(Protocol):
    """Anything that answers a chat; `name` goes into the cache key."""

    name: str

    def reply(self, messages: Sequence[Message]) -> str:
        """The answer's text.

        Raises:
            TemporaryFailure: Asking again later may help.
        """
        ...


class TemporaryFailure(RuntimeError):
    """A time-out, a busy or broken server, half a reply: worth another try."""


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint (`/chat/completions`).

    Args:
        model: Name that the endpoint knows the model by.
        base_url: Address of the endpoint, for example `http://127.0.0.1:8000/v1`; `None` = the client's default.
        api_key: Key; local servers take any.
        timeout: Seconds to wait for one reply.
        max_tokens: Longest reply.

    Raises:
        ImportError: The client library is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_tokens: int = 400,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise ImportError(
                "Asking an endpoint needs the client: pip install 'prolab_hf[describe]'"
            ) from error
        self._openai = openai
        self.name = model
        self.max_tokens = max_tokens
        # Retries are ours, so that they share one back-off and show in the log.
        self._client = openai.OpenAI(
            base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=0
        )

    def reply(self, messages: Sequence[Message]) -> str:
        """One answer.

        Raises:
            TemporaryFailure: Time-out, lost connection, server error, rate limit, or a reply cut short.
            ValueError: The endpoint refuses the request itself (key, model name); asking again is useless.
        """
        chat: Any = list(messages)
        try:
            answer = self._client.chat.completions.create(
                model=self.name, messages=chat, temperature=0.0, max_tokens=self.max_tokens
            )
        except (self._openai.APITimeoutError, self._openai.APIConnectionError) as error:
            raise TemporaryFailure(f"no answer from the endpoint: {error}") from error
        except self._openai.APIStatusError as error:
            if error.status_code in (408, 409, 425, 429) or error.status_code >= 500:
                raise TemporaryFailure(f"the endpoint answered {error.status_code}") from error
            raise ValueError(
                f"The endpoint refuses the request for model {self.name!r} with status {error.status_code}: "
                f"{error.message}. Check address, key and model name."
            ) from error
        except ValueError as error:  # a body that is no JSON
            raise TemporaryFailure(f"the endpoint's reply could not be read: {error}") from error
        choices = getattr(answer, "choices", None)
        text = choices[0].message.content if choices and choices[0].message else None
        if not text:
            raise TemporaryFailure("the endpoint's reply holds no text")
        return text


class LocalModel:
    """A transformers text-generation model on this machine.

    Args:
        model: Folder or Hub id of a chat model.
        gguf_file: File inside it, for GGUF weights.
        max_new_tokens: Longest reply.
    """

    def __init__(self, model: str, *, gguf_file: str | None = None, max_new_tokens: int = 300) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
        self.name = gguf_file or Path(model).name
        self.max_new_tokens = max_new_tokens
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model, **options)
        self._model = AutoModelForCausalLM.from_pretrained(model, **options).eval()
        self._lock = threading.Lock()  # one generation at a time: they would only share the cores

    def reply(self, messages: Sequence[Message]) -> str:
        """One answer, decoded greedily."""
        inputs: Any = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with self._lock:
            output = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        new_tokens = output[0, inputs["input_ids"].shape[1] :]
        return str(self._tokenizer.decode(new_tokens, skip_special_tokens=True))


@dataclass(frozen=True)
class DescribeSettings:
    """How hard to try.

    Attributes:
        max_attempts: Tries per question: temporary failures and unusable answers both count.
        parallel: Questions under way at once.
        first_delay: Seconds before the second try; doubled for each further one, with some chance.
        longest_delay: Upper bound of that.
        rules: What is accepted.
    """

    max_attempts: int = 5
    parallel: int = 4
    first_delay: float = 1.0
    longest_delay: float = 30.0
    rules: DescriptionRules = field(default_factory=DescriptionRules)

    def __post_init__(self) -> None:
        for name in ("max_attempts", "parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclass(frozen=True)
class DescribeResult:
    """What came of it.

    Attributes:
        descriptions: Name of what was asked about -> answer, in the order of the questions, for those answered.
        failures: Name -> why there is no answer.
        asked: Questions that were sent.
        cached: Questions answered from the cache.
    """

    descriptions: dict[str, list[str]]
    failures: dict[str, str]
    asked: int
    cached: int


def describe_classes(
    class_names: Sequence[str],
    model: ChatModel,
    cache: DescriptionCache,
    settings: DescribeSettings | None = None,
    *,
    on_answer: Callable[[str, str | None], None] = lambda class_name, problem: None,
    sleep: Callable[[float], None] = time.sleep,
) -> DescribeResult:
    """Describes every class, in parallel, with retries and a cache that never asks twice.

    Args:
        class_names: The classes, unique.
        model: Who is asked.
        cache: Where accepted answers are kept; pass the same file again to resume.
        settings: How hard to try.
        on_answer: Called with each class when it is done, and with the problem if it failed.
        sleep: How to wait between tries.

    Raises:
        ValueError: A class name is empty or occurs twice, or the endpoint refuses the request itself.
    """
    settings = settings or DescribeSettings()
    names = [name.strip() for name in class_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or not all(names) or twice:
        what = f"{twice[0]!r} occurs twice" if twice else "there is an empty name or none at all"
        raise ValueError(f"The list of classes cannot be used: {what}. Give every class one name of its own.")
    rules = settings.rules

    def question(name: str) -> Question:
        return Question(
            lambda problems: description_messages(name, names, rules, problems),
            lambda reply: accepted_descriptions(reply, rules),
        )

    return ask_all(
        {name: question(name) for name in names}, model, cache, settings, on_answer=on_answer, sleep=sleep
    )


@dataclass(frozen=True)
class Question:
    """What a language model is asked.

    Attributes:
        messages: The chat, given what was wrong with the last answer.
        accept: From a reply to the answer, and the problems that make it unusable.
    """

    messages: Callable[[Sequence[str]], list[Message]]
    accept: Callable[[str], tuple[list[str], list[str]]]


def ask_all(
    questions: Mapping[str, Question],
    model: ChatModel,
    cache: DescriptionCache,
    settings: DescribeSettings,
    *,
    on_answer: Callable[[str, str | None], None] = lambda name, problem: None,
    sleep: Callable[[float], None] = time.sleep,
) -> DescribeResult:
    """Asks many questions in parallel, with retries and a cache that never asks twice.

    Args:
        questions: Name of what is asked about -> question.
        model: Who is asked.
        cache: Where accepted answers are kept; pass the same file again to resume.
        settings: How hard to try.
        on_answer: Called with each name when it is done, and with the problem if it failed.
        sleep: How to wait between tries.

    Raises:
        ValueError: The endpoint refuses the request itself.
    """
    run = _Run(model, cache, settings, sleep)
    answers: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(settings.parallel) as pool:
        waiting: dict[Future[list[str]], str] = {
            pool.submit(run.answer, name, question): name for name, question in questions.items()
        }
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    name = waiting.pop(future)
                    try:
                        answers[name] = future.result()
                        on_answer(name, None)
                    except TemporaryFailure as failure:
                        failures[name] = str(failure)
                        on_answer(name, str(failure))
        except BaseException:
            run.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    ordered = {name: answers[name] for name in questions if name in answers}
    return DescribeResult(ordered, failures, run.asked, run.cached)


class _Run:
    """State shared by the threads of one run."""

    def __init__(
        self,
        model: ChatModel,
        cache: DescriptionCache,
        settings: DescribeSettings,
        sleep: Callable[[float], None],
    ) -> None:
        self.model = model
        self.cache = cache
        self.settings = settings
        self.sleep = sleep
        self.asked = 0
        self.cached = 0
        self.stopped = threading.Event()
        self._lock = threading.Lock()

    def answer(self, name: str, question: Question) -> list[str]:
        """The answer to one question, from the cache or the model."""
        key = self.cache.key(self.model.name, question.messages(()))
        known = self.cache.get(key)
        if known is not None:
            with self._lock:
                self.cached += 1
            return known

        def ask(problems: Sequence[str]) -> str:
            with self._lock:
                self.asked += 1
            return self.model.reply(question.messages(problems))

        answer = _accepted(name, ask, question.accept, self.settings, self.sleep, self.stopped.is_set)
        with self._lock:
            self.cache.put(key, name, answer)
        return answer


def describe_in_vocabulary(
    class_name: str,
    vocabulary: Sequence[str],
    model: ChatModel,
    *,
    class_names: Sequence[str] = (),
    rules: VocabularyRules | None = None,
    settings: DescribeSettings | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ChosenWords:
    """Asks a language model which properties of a space a new class shows.

    Args:
        class_name: The class.
        vocabulary: Names of the properties, the likeliest first.
        model: Who is asked.
        class_names: Classes that the space has.
        rules: What is accepted.
        settings: How hard to try.
        sleep: How to wait between tries.

    Raises:
        TemporaryFailure: No usable answer came.
        ValueError: The endpoint refuses the request itself, or there is no vocabulary.
    """
    rules, settings = rules or VocabularyRules(), settings or DescribeSettings()
    if len(vocabulary) < rules.min_chosen:
        raise ValueError(
            f"The space has {len(vocabulary)} properties, fewer than the {rules.min_chosen} to choose."
        )
    return _accepted(
        class_name,
        lambda problems: model.reply(
            vocabulary_messages(class_name, vocabulary, class_names, rules, problems)
        ),
        lambda reply: accepted_choice(reply, vocabulary, rules),
        settings,
        sleep,
    )


def _accepted(
    class_name: str,
    ask: Callable[[Sequence[str]], str],
    accept: Callable[[str], tuple[Answer, list[str]]],
    settings: DescribeSettings,
    sleep: Callable[[float], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """Asks until an answer has no problems, telling the model what was wrong with its last one.

    Raises:
        TemporaryFailure: No usable answer came.
    """
    problems: list[str] = []
    last = "the run was stopped"
    for attempt in range(settings.max_attempts):
        if is_stopped():
            break
        if attempt:
            delay = min(settings.first_delay * 2 ** (attempt - 1), settings.longest_delay)
            # Threads that failed together should not come back together.
            sleep(delay * random.uniform(0.75, 1.25))
        try:
            reply = ask(problems)
        except TemporaryFailure as failure:
            logger.info("%s, try %d: %s", class_name, attempt + 1, failure)
            last = str(failure)
            continue
        answer, problems = accept(reply)
        if not problems:
            return answer
        logger.info("%s, try %d: %s", class_name, attempt + 1, "; ".join(problems))
        last = "; ".join(problems)
    raise TemporaryFailure(f"no usable answer in {settings.max_attempts} tries; the last: {last}")
