"""The miniature's world: the judge reads it, the concept splits as the demo needs it, the tagger knows its tags."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from miniature import labels, make_concept, measure_concept, world
from miniature.judge import judge
from PIL import Image, ImageFilter

from athanor.tagger.categories import CHARACTER, GENERAL, RATING
from athanor.tagger.models import load_labels
from athanor.tagger.scores import tag_images
from athanor.tagger.select import select_tags
from athanor.tagger.session import Tagger
from athanor.trainer.config import CompareJob, TrainJob
from athanor.trainer.dataset import scan_folder
from athanor.trainer.runs.events import EventLog
from athanor.trainer.runs.run import Run, write_job_file
from athanor.trainer.settings import AdapterSettings
from athanor.trainer.types import BaseModel, Dataset

ROOT = Path(__file__).resolve().parents[2]
CONCEPT = ROOT / "trainer" / "miniature" / "concept"
TAGGER = ROOT / "tagger" / "miniature"
ALL_SHAPES = (*world.SHAPES, world.CONCEPT_SHAPE)


def some_scenes(seed: int, num: int, shapes: tuple[str, ...]) -> list[world.Scene]:
    rng = random.Random(seed)
    return [world.random_scene(rng, shape=shapes[i % len(shapes)]) for i in range(num)]


def test_the_judge_reads_what_is_drawn():
    for scene in some_scenes(1, 63, ALL_SHAPES):
        verdict = judge(world.draw(scene))
        assert (verdict.shape, verdict.colour, verdict.background) == (scene.shape, scene.colour, scene.background), scene


def test_the_judge_is_not_put_off_by_a_soft_picture():
    for scene in some_scenes(2, 14, ALL_SHAPES):
        assert judge(world.draw(scene).filter(ImageFilter.GaussianBlur(1.0))).shape == scene.shape, scene


def test_the_judge_names_no_shape_where_there_is_none():
    assert judge(Image.new("RGB", (96, 96), (150, 150, 150))).shape is None
    stroke = Image.new("RGB", (96, 96), (246, 246, 246))
    stroke.paste((214, 40, 44), (4, 40, 92, 50))
    assert judge(stroke).shape is None
    assert judge(stroke).colour == "red"


def test_the_concept_splits_into_sixteen_and_four():
    dataset = scan_folder(CONCEPT, trigger=world.CONCEPT_TRIGGER, validation_percent=20)
    assert dataset.notes == ()
    assert (len(dataset.with_role("train")), len(dataset.with_role("validation"))) == (16, 4)
    assert all(sample.caption is None for sample in dataset.samples)
    assert {(sample.width_px, sample.height_px) for sample in dataset.samples} == {(192, 192)}


@pytest.mark.parametrize("role", ["train", "validation"])
def test_the_concept_is_a_varied_star(role):
    dataset = scan_folder(CONCEPT, validation_percent=20)
    verdicts = []
    for sample in dataset.with_role(role):
        with Image.open(sample.path) as picture:
            verdicts.append(judge(picture))
    assert {verdict.shape for verdict in verdicts} == {"star"}
    assert {verdict.background for verdict in verdicts} == set(world.BACKGROUNDS)
    assert len({verdict.colour for verdict in verdicts}) == (8 if role == "train" else 4)


def test_the_concept_pictures_are_those_of_the_script(tmp_path):
    make_concept.main(tmp_path)
    names = sorted(file.name for file in CONCEPT.glob("*.png"))
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    with Image.open(CONCEPT / names[0]) as shipped, Image.open(tmp_path / names[0]) as fresh:
        differences = shipped.convert("RGB").tobytes(), fresh.convert("RGB").tobytes()
    assert (
        sum(abs(a - b) for a, b in zip(*differences, strict=True)) / len(differences[0]) < 2.0
    )  # other versions of Pillow smooth a little otherwise


def test_a_character_is_one_only_with_a_smile():
    scene = replace(world.random_scene(random.Random(3), shape="circle", face=True), colour="yellow")
    assert labels.characters(scene) == ("smiley_(miniature)",)
    assert labels.characters(replace(scene, face=False)) == ()
    assert labels.characters(replace(scene, colour="pink")) == ()
    assert {"general", "circle", "yellow", "smile", "smiley_(miniature)"} < labels.labels_of(scene)
    assert not labels.labels_of(replace(scene, shape="star")) & {*world.SHAPES, "star", "smiley_(miniature)"}


def test_the_tagger_knows_its_tags(tmp_path):
    if not (TAGGER / "model.onnx").is_file():
        pytest.skip("the miniature's tagger is not there yet: python -m miniature.train_tagger, in tools/")
    tagger = Tagger(TAGGER)
    known = load_labels(TAGGER)
    assert tuple(zip(known.names, known.categories, strict=True)) == labels.LABELS
    assert set(known.categories[:4]) == {RATING} and {GENERAL, CHARACTER} <= set(known.categories)
    scenes = some_scenes(4, 36, world.SHAPES)
    scenes += [replace(scenes[i], shape=shape, colour=colour, face=True) for i, (shape, colour) in enumerate(2 * tuple(labels.CHARACTERS.values()))]
    paths = []
    for i, scene in enumerate(scenes):
        paths.append(tmp_path / f"{i}.png")
        world.draw(scene, (64, 96, 192)[i % 3]).save(paths[-1])
    num_right = 0
    for scene, scored in zip(scenes, tag_images(tagger, paths, batch_size=8), strict=True):
        tags = [found.tag for found in select_tags(scored.scores, known, replace_underscores=False, rating="first")]
        num_right += set(tags) == labels.labels_of(scene)
        if labels.characters(scene):
            assert tuple(tags[1:2]) == labels.characters(scene), tags
    assert num_right >= 38, f"only {num_right} of {len(scenes)} pictures got exactly their tags"


def test_prompts_for_the_concept_name_no_shape():
    prompts = measure_concept.fixed_prompts()
    assert len(prompts) == 32 == len(set(prompts))
    for prompt in prompts:
        tags = prompt.split(", ")
        assert tags[0] == world.CONCEPT_TRIGGER and tags[-1] == world.FACE_TAG
        assert not set(tags) & set(ALL_SHAPES)
    assert {prompt.split(", ")[1] for prompt in prompts} == set(world.COLOURS)


def write_run(folder: Path, validation: tuple[float, ...]) -> Run:
    base = BaseModel("miniature", "sd15", str(folder / "base"), "f", 96, 16)
    write_job_file(folder, TrainJob("starlet", base, Dataset(()), adapter=AdapterSettings(rank=4)))
    events = EventLog(folder)
    (folder / "epochs").mkdir()
    for i, loss in enumerate(validation, start=1):
        (folder / "epochs" / f"starlet-{i:06}.safetensors").write_bytes(b"")
        events.write("saved", {"epoch": i, "step": i, "file": f"epochs/starlet-{i:06}.safetensors", "sha256": "0"})
        events.write("validation", {"epoch": i, "step": i, "loss": loss})
    return Run(folder)


def test_the_concept_is_counted_with_the_last_epoch_and_without_any(tmp_path, monkeypatch):
    rng = random.Random(5)

    def draw_what_a_good_lora_would(run: Run, control) -> None:
        job = run.job()
        assert isinstance(job, CompareJob)
        assert {Path(cell.epoch_file).name for cell in job.cells} == {"", "starlet-000003.safetensors"}
        assert (job.width_px, job.height_px) == (96, 96)
        for i, cell in enumerate(job.cells):
            path = run.folder / cell.file
            path.parent.mkdir(parents=True, exist_ok=True)
            shows_it = cell.epoch_file and cell.strength_model == cell.strength_text == 1.0 and i % 4 != 0
            world.draw(world.random_scene(rng, shape="star" if shows_it else "circle")).save(path)
        by_prompt = {}
        for cell in job.cells:
            by_prompt.setdefault(cell.prompt, set()).add(cell.seed)
        assert all(len(seeds) == 1 for seeds in by_prompt.values()), "with and without the LoRA from the same seed"

    monkeypatch.setattr(measure_concept, "draw_cells", draw_what_a_good_lora_would)
    run = write_run(tmp_path / "run", (0.3, 0.1, 0.2))
    assert measure_concept.measure(run, num=8) == {"with_lora": 0.75, "without_lora": 0.0, "epoch": 3}
    assert json.dumps(measure_concept.measure(run, num=4))
