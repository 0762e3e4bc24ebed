import pytest

from athanor.tagger.consolidate import general_tags


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("shirt, white shirt", "shirt"),
        ("Shirt, white_shirt", "shirt"),
        ("hair, long hair, very long hair", "hair, long hair"),
        ("background, white background, simple background", "background"),
        ("hat, hatsune miku", ""),
        ("hat, witch hat", "hat"),
        ("solo, solo focus", ""),
        ("focus, solo focus", "focus"),
        ("1girl, girl, girls, multiple girls", ""),
        ("ass, glasses", ""),
        ("eyes, closed eyes, blue eyes", "eyes"),
        ("shirt, no shirt", ""),
        ("hat, unworn hat", ""),
        ("tail, fake tail", ""),
        ("animal ears, cat ears", "animal ears"),
        ("animal ears, black cat ears", "animal ears"),
        ("smile, grin", "smile"),
        ("weapon, katana", "weapon"),
        ("weapon, sword, katana", "weapon, sword"),
        ("footwear, red sneakers", "footwear"),
        ("shirt, t-shirt", "shirt"),
        ("shirt, no t-shirt", ""),
        ("shirt, shirt", ""),
        ("", ""),
    ],
)
def test_general_tags_beside_specific_ones(caption: str, expected: str) -> None:
    assert general_tags(caption.split(", ")) == frozenset(tag for tag in expected.split(", ") if tag)
