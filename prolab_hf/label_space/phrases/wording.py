"""The stems of a phrase, and when two phrases are worded alike."""

import re

from prolab_hf.label_space.phrases.word_lists.function_words import IRREGULAR, NUMBER_WORDS


def stem(word: str) -> str:
    """A word without its plural ending; known irregular forms by list.

    Args:
        word: One lower-case word.
    """
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def tokens_of(phrase: str) -> list[str]:
    """Stems of a phrase, lower case, hyphens as spaces, articles left out.

    Args:
        phrase: Any text.
    """
    text = phrase.lower().replace("-", " ").replace("/", " or ").replace("’", "'")
    text = re.sub(r"'s\b|n't\b", lambda found: " not" if found[0] == "n't" else "", text)
    words = re.findall(r"[a-z]+|\d+|,", text)
    return [stem(word) for word in words]


def same_wording(phrase: str) -> str:
    """The phrase up to case, number, articles, hyphens and spelling: equal texts say the same.

    Args:
        phrase: Any text.
    """
    words = [word for word in tokens_of(phrase) if word not in ("a", "an", "the", ",")]
    digits = {str(number): word for number, word in enumerate(NUMBER_WORDS)}
    return " ".join(
        {"grey": "gray", "aluminum": "aluminium"}.get(word, digits.get(word, word)) for word in words
    )
