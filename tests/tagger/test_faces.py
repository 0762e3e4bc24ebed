"""Against models whose input and output are laid out as YuNet's and the anime detector's, see tests/shared/tiny_faces.py."""

import numpy as np
import pytest
from PIL import Image
from tiny_faces import write_yolo, write_yunet

from athanor.tagger.errors import TaggerError
from athanor.tagger.faces import FaceDetector, _of_yolo, _of_yunet, _without_overlaps


@pytest.fixture(params=["yunet", "yolo"])
def detector(request, tmp_path):
    return FaceDetector({"yunet": write_yunet, "yolo": write_yolo}[request.param](tmp_path / "人脸 1" / f"{request.param}.onnx"))


def picture(*reds, size=(64, 64), colour="red"):
    image = Image.new("RGB", size, "white")
    for at in reds:
        image.paste(colour, (*at, at[0] + 8, at[1] + 8))
    return image


def test_faces_are_found_where_they_are(detector):
    assert detector.find(picture()) == ()
    (face,) = detector.find(picture((16, 40)))
    assert face.box == pytest.approx((16 / 64, 40 / 64, 24 / 64, 48 / 64)) and face.score == pytest.approx(1, abs=0.01)
    assert len(detector.find(picture((0, 0), (56, 56)))) == 2


def test_the_colours_are_in_the_right_order(detector):
    assert detector.find(picture((16, 40), colour="blue")) == ()


def test_boxes_are_shares_of_pictures_of_any_shape(detector):
    """It lies at the upper left of the square that the model takes."""
    for size, at in (((64, 32), (48, 8)), ((16, 64), (8, 56))):
        (face,) = detector.find(picture(at, size=size))
        assert face.box == pytest.approx((at[0] / size[0], at[1] / size[1], (at[0] + 8) / size[0], (at[1] + 8) / size[1]))


def test_overlapping_boxes_are_one_face():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [0, 0, 9, 9]], float)
    scores = np.array([0.8, 0.9, 0.5, 0.1])
    assert _without_overlaps(boxes, scores, 0.25, 0.3) == [1, 2]
    assert _without_overlaps(boxes, scores, 0.25, 0.9) == [1, 0, 2]
    assert _without_overlaps(boxes, scores, 0.95, 0.3) == []


def test_yunets_anchors_are_decoded_as_opencv_does():
    """One anchor each in the grids of 8, 16 and 32 px: column 3, row 2 of stride 8 is number 2 * 8 + 3."""
    outputs = [np.zeros((1, (64 // stride) ** 2, width), np.float32) for width in (1, 1, 4) for stride in (8, 16, 32)]
    outputs[0][0, 19], outputs[3][0, 19], outputs[6][0, 19] = 0.81, 1.0, (0.25, -0.5, np.log(2), np.log(4))
    boxes, scores = _of_yunet(outputs, 64)
    x, y = (3 + 0.25) * 8, (2 - 0.5) * 8
    assert scores[19] == pytest.approx(0.9) and len(boxes) == 64 + 16 + 4
    assert boxes[19] == pytest.approx((x - 8, y - 16, x + 8, y + 16))


def test_the_best_class_of_a_yolo_counts():
    boxes, scores = _of_yolo(np.array([[[10], [20], [4], [8], [0.1], [0.6]]], np.float32))
    assert boxes.tolist() == [[8, 16, 12, 24]] and scores == pytest.approx([0.6])


def test_other_files_are_refused_with_what_to_take_instead(tmp_path, make_tagger):
    for file in (tmp_path / "none.onnx", make_tagger([(0, 0, "red")]) / "model.onnx"):
        with pytest.raises(TaggerError, match=r"face_detection_yunet_2023mar\.onnx.*models/face_detectors"):
            FaceDetector(file).find(picture())
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(TaggerError, match="cannot be loaded"):
        FaceDetector(tmp_path / "broken.onnx").find(picture())
