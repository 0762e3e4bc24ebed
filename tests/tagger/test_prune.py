from pathlib import Path

import pytest

from athanor.tagger.lexicon import Lexicon, read_lexicon
from athanor.tagger.prune import Subject, prunable


def character_traits(captions, min_share: float) -> set[str]:
    return {pruned.key for pruned in prunable(captions, "character", min_share)}


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
    assert character_traits(_captions(f"solo, {tag}"), 0.4) == set()


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
    assert character_traits([], 0.4) == set()


def _kinds(subject: Subject, *texts: str, min_share: float = 0.4, lexicon: Lexicon | None = None) -> dict[str, str]:
    return {pruned.key: pruned.kind for pruned in prunable(_captions(*texts), subject, min_share, lexicon)}


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "x.csv").write_text("hatsune_miku,4,9,\nvocaloid,3,9,\nwlop,1,9,\nsky,0,9,\n", encoding="utf-8")
    return read_lexicon(tmp_path / "x.csv")


def test_names_go_where_a_lexicon_knows_them(lexicon: Lexicon) -> None:
    caption = "1girl, Hatsune Miku, vocaloid, wlop, sky, sketch, red hair"
    assert _kinds("character", caption) == {"red hair": "a trait"}
    assert _kinds("character", caption, lexicon=lexicon) == {"red hair": "a trait", "hatsune miku": "a name", "vocaloid": "a name"}
    assert _kinds("style", caption, lexicon=lexicon) == {"sketch": "a style", "wlop": "an artist"}
    assert _kinds("outfit", caption, lexicon=lexicon) == {}


def test_a_style_loses_its_own_names_and_keeps_what_is_to_be_seen() -> None:
    usual = "1girl, red hair, white dress, watercolor (medium), Sketch, forest, smile"
    texts = [usual, usual, "monochrome, 1boy, forest, signature, best quality", usual]
    assert _kinds("style", *texts) == {
        **{"watercolor (medium)": "a style", "sketch": "a style"},
        **{"signature": "written upon it", "best quality": "written upon it"},
    }
    assert "monochrome" in _kinds("style", *texts, min_share=0.25), "a rare one is a variation"


def test_an_outfit_loses_its_parts_and_keeps_the_body() -> None:
    caption = "1girl, red hair, blue eyes, school uniform, pleated skirt, red necktie, hair ribbon, holding hat, no shoes, unworn jacket, shirt lift, standing, rainbow"
    kinds = {"school uniform": "clothes", "pleated skirt": "clothes", "red necktie": "clothes", "hair ribbon": "clothes"}
    assert _kinds("outfit", caption) == kinds
    assert _kinds("outfit", caption, "standing", "standing") == {}, "one of three pictures is a variation"


def test_a_concept_is_what_all_pictures_have() -> None:
    texts = ["1girl, solo, handstand, barefoot, grass"] * 4 + ["1boy, handstand, street"]
    assert _kinds("concept", *texts, min_share=0.8) == {"handstand": "common to all", "barefoot": "common to all", "grass": "common to all"}
    assert _kinds("concept", *texts, min_share=0.9) == {"handstand": "common to all"}


@pytest.mark.parametrize("subject", ["character", "style", "outfit", "concept"])
def test_counts_always_stay(subject: Subject) -> None:
    assert _kinds(subject, "1girl, solo, 2boys, 6+girls, multiple girls, male focus, no humans") == {}


def test_shares_tell_why() -> None:
    (first, second) = prunable(_captions("1girl, red hair, tail", "1girl, red hair", "2girls, hat"), "character", 0.5)
    assert (first.key, first.share) == ("red hair", 1.0) and (second.key, second.share) == ("tail", 0.5)
