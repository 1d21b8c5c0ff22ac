"""What fills a slot of a phrase: what a thing is used for, carries, holds, is covered or topped with, is made of.

Other words are compared noun by noun. Here two phrases with one frame ("used for ...", "carries ...", "topped with
...") exclude each other where the words that fill it differ, whether or not the lists know them; groups of fillings
(`word_lists.slots`) say what is a kind of what.
"""

from prolab_hf.label_space.phrases.lexicon import Lexicon
from prolab_hf.label_space.phrases.word_lists.function_words import ARTICLES, GROUPS, NEGATING, word_set
from prolab_hf.label_space.phrases.word_lists.nouns import SELF_NOUNS
from prolab_hf.label_space.phrases.word_lists.slots import (
    GROUPS_OF_FILLINGS,
    HOLDS,
    KNOWN_ONLY,
    PARTICIPLES,
    PHRASE_SLOTS,
    USES,
    VERB_SLOTS,
)
from prolab_hf.label_space.phrases.wording import stem

_USE_OF = {word: use for use, words in USES.items() for word in words.split()}
_KNOWN = {stem(word) for group, words in GROUPS_OF_FILLINGS.items() for word in (group, *words.split())}
_ENDS = word_set(
    "of with for that which who in on at to by from into near under over while when where behind beside "
    "through around off without inside outside along onto above below than as between during"
)
_JOINS = frozenset({"or", "and", ","})
_EMPTY = frozenset(
    {"thing", "something", "item", "object", "stuff", "way", "lot", "part", "piece", "kind", "it"}
)
_PURPOSE = frozenset({"used", "designed", "meant", "made", "intended", "suited", "suitable", "built", "use"})
_INSTRUMENTS = frozenset({"tool", "device", "machine", "equipment", "utensil", "instrument", "implement"})
_BORNE = frozenset({"carried", "held", "kept", "stored", "sold"})
_WHERE = frozenset({"on", "in", "at", "under", "between", "around", "over", "across"})
_PREPOSITIONS = frozenset(
    {"with", "by", "on", "from", "to", "into", "in", "for", "through", "over", "around", "onto"}
)
_PLACING = frozenset(
    {
        "by",
        "on",
        "in",
        "from",
        "to",
        "at",
        "against",
        "above",
        "over",
        "onto",
        "off",
        "under",
        "between",
        "into",
        "along",
    }
)
# "Seen on", "based on" may be followed by more than one thing at once.
_VAGUE = word_set(
    "located placed based related needed surrounded joined decorated used suited involved situated combined "
    "arranged designed intended shaped equipped fitted marked named packed tied crowded wooded paired "
    "suspended"
)
_PEOPLE = frozenset({"person", "man", "woman", "child", "one", "you", "animal"})


def slots_of(phrase: str, words: list[str], lexicon: Lexicon) -> dict[str, set[str]]:
    """What fills the slots of a phrase.

    Args:
        phrase: The phrase.
        words: Its stems without articles.
        lexicon: Word lists, for materials.

    Returns:
        Slot -> its fillings, several where "or", "and" or a comma stands between them.
    """
    if any(word in NEGATING for word in words):
        return {}
    found: dict[str, set[str]] = {}
    for at, word in enumerate(words):
        follows = words[at + 1] if at + 1 < len(words) else ""
        slot = PHRASE_SLOTS.get((word, follows)) or _frame(word, follows)
        if slot is not None:
            _fill(found, slot, words[at + 2 :], lexicon)
    if words[:1] == ["for"] and len(words) > 1 and not words[1].endswith("ing") and words[2:3] != ["to"]:
        _fill(found, "for whom", [word for word in words[1:] if word != "only"], lexicon)
    _verb_slot(found, phrase.lower(), words, lexicon)
    if len(words) == 2 and words[1] in ("inside", "within") and words[0] in _KNOWN | {"air"}:
        _fill(found, "held", words[:1], lexicon)
    # "hangs from a hook", "lies flat on the ground"
    if words[:1] and words[0] in HOLDS and (_PLACING | {"upside", "freely"}) & set(words[1:3]):
        found["held how"] = set(HOLDS[words[0]])
    _use(found, words, lexicon)
    return {slot: fillings for slot, fillings in found.items() if fillings}


def _frame(word: str, follows: str) -> str | None:
    """Any participle and its preposition open a slot of their own: "played with", "worn by"."""
    if word in _BORNE and follows in _WHERE:
        return f"{word} where"  # "carried on the back", "carried in the hand"
    participle = (word.endswith("ed") and len(word) > 4) or word in PARTICIPLES
    return f"{word} {follows}" if participle and follows in _PREPOSITIONS and word not in _VAGUE else None


def _verb_slot(found: dict[str, set[str]], phrase: str, words: list[str], lexicon: Lexicon) -> None:
    """A verb that opens the phrase, perhaps behind "can" or "that": "carries cargo"."""
    start = 1 if words[:1] and words[0] in ("can", "that", "which", "who") else 0
    if len(words) > start + 1:
        verb = _verb(words[start])
        # "stores" is a verb, "store" is a shop.
        if verb in VERB_SLOTS and (start or verb not in phrase.split()):
            rest = words[start + 1 :]
            _fill(found, VERB_SLOTS[verb], rest[1:] if rest[0] == "on" else rest, lexicon)


def _use(found: dict[str, set[str]], words: list[str], lexicon: Lexicon) -> None:
    """What a thing is for: "used for cutting wood", "for cutting wood", "used to cut wood", "cutting tool"."""
    at = _purpose(words)
    if at is None:
        return
    verb = _verb(words[at])
    use = _USE_OF.get(verb) or _USE_OF.get(words[at])
    if use is None and not words[at].endswith("ing") and words[at - 1] != "to":
        return
    found["use"] = {use or verb}
    rest = words[at + 1 :]
    # "for cutting and slicing bread"
    while len(rest) > 1 and rest[0] in _JOINS and rest[1].endswith("ing"):
        found["use"].add(_USE_OF.get(_verb(rest[1]), _verb(rest[1])))
        rest = rest[2:]
    if use in ("carry", "store") and rest:
        _fill(found, "load" if use == "carry" else "held", rest, lexicon)
    elif rest and rest[0] not in _INSTRUMENTS:
        _fill(found, "used on", rest, lexicon)


def _purpose(words: list[str]) -> int | None:
    """Where the verb of a use stands."""
    for at, word in enumerate(words[:4]):
        follows = words[at + 1] if at + 1 < len(words) else ""
        opens = word == "for" and (at == 0 or words[at - 1] in _PURPOSE | _INSTRUMENTS)
        if opens and follows in _PEOPLE and words[at + 2 : at + 3] == ["to"] and len(words) > at + 3:
            return at + 3
        if opens and (follows.endswith("ing") or (follows in _USE_OF and words[at - 1] in _PURPOSE)):
            return at + 1
        if word == "to" and at and words[at - 1] in _PURPOSE and follows:
            return at + 1
    if len(words) == 2 and words[0].endswith("ing") and words[1] in _INSTRUMENTS:
        return 0
    return None


def _fill(found: dict[str, set[str]], slot: str, words: list[str], lexicon: Lexicon) -> None:
    """Adds the last word of each joined part up to the next preposition."""
    chunk: list[str] = []
    for word in [*words, "."]:
        if word in _JOINS or word in _ENDS or word == ".":
            head = chunk[-1] if chunk else ""
            if head and head not in _EMPTY and not head.isdigit():
                found.setdefault(slot, set()).update(_filling(slot, chunk, lexicon))
            if word not in _JOINS:
                return
            chunk = []
        elif word not in ARTICLES:
            chunk.append(word)


def _filling(slot: str, chunk: list[str], lexicon: Lexicon) -> set[str]:
    head = chunk[-1]
    if slot == "likeness":  # as the lists call "rod-shaped"
        shapes = {
            value for dimension, value in lexicon.entries.get((head, "shaped"), []) if dimension == "shape"
        }
        return shapes or {head}
    materials = {value for dimension, value in lexicon.entries.get((head,), []) if dimension == "material"}
    if head in _KNOWN or (slot not in KNOWN_ONLY and not materials):
        return {head}
    if slot == "stuff" and not materials and head not in SELF_NOUNS and head not in GROUPS:
        return {head}
    # A material is compared as one; "made of" leaves that to the dimension of materials.
    return {f"material {value}" for value in materials} if slot not in ("stuff", "runs on") else set()


def _verb(word: str) -> str:
    """Base form of a verb: "cutting", "storing", "carries"."""
    if not word.endswith("ing") or len(word) < 6:
        return {"carry": "carry", "carries": "carry"}.get(word, word)
    base = word[:-3]
    for form in (base, base + "e", base[:-1]):
        if form in _USE_OF or form in VERB_SLOTS:
            return form
    return base
