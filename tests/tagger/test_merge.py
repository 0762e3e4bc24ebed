import numpy as np
import pytest

from athanor.tagger.labels import Labels
from athanor.tagger.merge import MERGINGS, merge_labels, on_scale_of
from athanor.tagger.thresholds import Thresholds

FIRST = Labels(("solo", "long_hair", "miku", "general"), (0, 0, 4, 9))
SECOND = Labels(("general", "long hair", "sky", "solo", "miku"), (9, 0, 0, 0, 0))


def _by_name(merging: str) -> dict[tuple[str, int], float]:
    merge = merge_labels(FIRST, SECOND)
    scores = merge.scores(np.float32([0.9, 0.4, 0.8, 0.6]), np.float32([0.2, 0.8, 0.7, 0.5, 0.3]), merging)
    assert scores.dtype == np.float32 and len(scores) == len(merge.labels)
    return {
        (name, category): round(float(score), 3) for name, category, score in zip(merge.labels.names, merge.labels.categories, scores, strict=True)
    }


def test_labels_of_both_in_one_list() -> None:
    labels = merge_labels(FIRST, SECOND).labels
    assert labels.names == ("solo", "long_hair", "miku", "general", "sky", "miku")
    assert labels.categories == (0, 0, 4, 9, 0, 0), "a tag of another category is another tag"


@pytest.mark.parametrize(
    ("merging", "expected"),
    [
        ("union", [0.9, 0.8, 0.8, 0.6, 0.7, 0.3]),
        ("intersection", [0.5, 0.4, 0, 0.2, 0, 0]),
        ("mean", [0.7, 0.6, 0.8, 0.4, 0.7, 0.3]),
    ],
)
def test_scores(merging: str, expected: list[float]) -> None:
    assert list(_by_name(merging).values()) == expected


def test_a_tagger_with_itself_is_itself() -> None:
    merge, scores = merge_labels(FIRST, FIRST), np.float32([0.1, 0.2, 0.3, 0.4])
    assert merge.labels == FIRST
    for merging in MERGINGS:
        np.testing.assert_allclose(merge.scores(scores, scores, merging), scores)


def test_a_tag_that_stands_twice_counts_once() -> None:
    merge = merge_labels(Labels(("a", "A", "b"), (0, 0, 0)), Labels(("b", "c"), (0, 0)))
    assert merge.labels.names == ("a", "b", "c")
    assert merge.scores(np.float32([0.5, 0.9, 0.1]), np.float32([0.3, 0.2]), "union").tolist() == pytest.approx([0.5, 0.3, 0.2])


@pytest.mark.parametrize(("merging", "taken"), [("union", [1, 1, 1, 0]), ("intersection", [1, 0, 0, 0]), ("mean", [1, 1, 0, 0])])
def test_each_tagger_is_judged_by_its_own_thresholds(merging: str, taken: list[int]) -> None:
    labels, own, other = Labels(("a", "b", "c", "d"), (0, 0, 0, 0)), Thresholds(0.26), Thresholds(0.53)
    first, second = np.float32([0.3, 0.9, 0.2, 0.25]), np.float32([0.6, 0.5, 0.54, 0.52])
    merge = merge_labels(labels, labels)
    merged = merge.scores(first, on_scale_of(second, labels, other, own), merging)
    assert (merged > own.general).astype(int).tolist() == taken
    back = merge.scores(on_scale_of(first, labels, own, other), second, merging)
    assert (back > other.general).astype(int).tolist() == taken, "whichever comes first"


def test_moved_scores_keep_their_ends_and_their_order() -> None:
    labels = Labels(("a", "b", "c", "d", "e", "x"), (0, 0, 0, 0, 0, 4))
    scores = np.float32([0, 0.2, 0.5, 0.75, 1, 0.3])
    moved = on_scale_of(scores, labels, Thresholds(0.5, 0.85), Thresholds(0.2, 0.85))
    np.testing.assert_allclose(moved, [0, 0.08, 0.2, 0.6, 1, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(on_scale_of(scores, labels, Thresholds(1.0), Thresholds()), scores)
