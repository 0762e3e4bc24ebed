import pytest

from athanor.tagger.prune import character_traits


def _captions(*texts: str) -> list[tuple[str, ...]]:
    return [tuple(text.split(", ")) for text in texts]


@pytest.mark.parametrize(
    "tag",
    ["red hair", "long_hair", "hair", "Blue Eyes", "cat ears", "twintails", "halo", "mole under eye", "dark-skinned female", "hair between eyes"],
)
def test_traits_go(tag: str) -> None:
    assert len(character_traits(_captions(f"1girl, solo, {tag}"), 0.4)) == 1


@pytest.mark.parametrize(
    "tag",
    [
        *("1girl", "solo", "2boys", "chair", "hair ribbon", "hair ornament", "eyewear", "bear", "tailcoat", "thorns", "school uniform"),
        *("closed eyes", "half-closed eyes", "hand in own hair", "wet hair", "fake animal ears", "alternate hairstyle", "floating hair", "smile"),
        *("white background", "detached wings", "hands on own ears", "leaf in hair", "brushing another's hair"),
    ],
)
def test_everything_else_stays(tag: str) -> None:
    assert character_traits(_captions(f"solo, {tag}"), 0.4) == frozenset()


def test_a_rare_trait_is_a_variation_and_stays() -> None:
    captions = _captions(*["1girl, red hair, ponytail"] * 2, *["1girl, red hair"] * 7, "1girl, blonde hair")
    assert character_traits(captions, 0.4) == {"red hair"}
    assert character_traits([*captions, ("1girl", "tail", "tail", "tail", "tail")], 0.4) == {"red hair"}
    assert character_traits(captions, 0.2) == {"red hair", "ponytail"}
    assert character_traits(captions, 0.1) == {"red hair", "ponytail", "blonde hair"}


def test_only_pictures_of_one_person_decide() -> None:
    captions = _captions("1girl, red hair", "1girl, 1boy, black hair", "2girls, black hair", "2girls, black hair, red hair")
    assert character_traits(captions, 0.4) == {"red hair"}


def test_without_counts_all_captions_decide() -> None:
    assert character_traits(_captions("red hair, hat", "red hair", "hat"), 0.4) == {"red hair"}
    assert character_traits([], 0.4) == frozenset()
