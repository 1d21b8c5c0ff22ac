"""Sorts of things: nouns of which one thing is only one, ready for look-up."""

from prolab_hf.label_space.phrases.word_lists.function_words import word_set
from prolab_hf.label_space.phrases.word_lists.sorts.living import LIVING
from prolab_hf.label_space.phrases.word_lists.sorts.made import MADE
from prolab_hf.label_space.phrases.word_lists.sorts.world import WORLD
from prolab_hf.label_space.phrases.wording import stem

SORTS: dict[str, str] = LIVING | MADE | WORLD
# Sorts whose members are what their name says: an oak is a tree.
GENERAL = word_set(
    "mammal bird fish reptile amphibian insect arachnid crustacean mollusc tree flower fruit vegetable nut "
    "meat pasta car vessel aircraft train seat bed table lamp bag house church tower bridge cloud"
)
# Of these, a phrase that lacks the general one lacks every kind of it: "no plants" / "green crops".
GENERAL_NOUNS = GENERAL | word_set("animal plant crop vehicle building container tool food drink")


def _sorts(names: str) -> frozenset[str]:
    return frozenset(names.split("|"))


# Sorts of which one scene holds several: they are compared only where nothing else is said ("river" / "desert").
BARE = _sorts(
    "landscape|water body|street|settlement|weather|bedding|drink|container|dairy|kitchen machine|household machine"
    "|device|bathroom fitting|plant|cleaning tool|vessel for drinking|bag|building|airfield|cord|table|gem"
    "|precipitation|sport gear|picture|money|room"
)
# Parts, forms and places: a thing has several of them, so they are compared behind a verb or a preposition only
# ("lives in trees" / "lives in caves").
BEHIND = _sorts(
    "plant part|limb|organ|mouthpart|headgear of an animal|foot of an animal|place on a body|place indoors"
    "|place outdoors|opening of a house|handle of a thing|topping|solid form|display|drive|energy source|support"
    "|light source|closure|furniture for storing|outlet|line form|sign|traffic device|tissue|bone|vessel of a body"
    "|way of a vehicle|person|cab or load|flat form|hollow|heap|floor cover|wall cover|roof cover|roof|ornament"
    "|loose ground|sea floor|fixing|structure outdoors|cutlery|stop|road user|public place|sky sight|egg|animal home"
    "|edge of water|food|vegetable|fruit|spice|preparation|urban pattern|direction|playground|joining of wire"
)
# Sorts of which a thing has one: "shirt with a logo" / "shirt with paisley".
HAD_ONCE = _sorts("ornament|sign|support|drive|closure|roof|display|roof cover|wall cover|hairdo")
# Of these things are made: "tin roof", "gravel path", "brass instrument".
MADE_OF = _sorts("roof cover|wall cover|floor cover|loose ground|barrier|cloth|music family|meat")


def _stems(words: str) -> list[str]:
    return list(dict.fromkeys(" ".join(map(stem, word.split("_"))) for word in words.split("/")))


def _read() -> dict[str, dict[str, frozenset[str]]]:
    direct: dict[str, dict[str, set[str]]] = {}
    for sort, members in SORTS.items():
        for member in members.split():
            names = _stems(member)
            for name in names:
                direct.setdefault(name, {}).setdefault(sort, set()).add(names[0])
    found: dict[str, dict[str, set[str]]] = {}
    for name in direct:
        todo, seen = [name], {name}
        while todo:
            for sort, same in direct.get(todo.pop(), {}).items():
                found.setdefault(name, {}).setdefault(sort, set()).update(same)
                general = stem(sort)
                if sort in GENERAL and general not in seen:
                    seen.add(general)
                    todo.append(general)
    return {name: {sort: frozenset(names) for sort, names in sorts.items()} for name, sorts in found.items()}


# Noun -> the sorts that it belongs to -> which of their members it is.
SORTS_OF = _read()
