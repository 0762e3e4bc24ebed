import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_mirror import Mirror, serving

from athanor.tagger.download import download_tagger
from athanor.tagger.errors import TaggerError
from athanor.tagger.formats import WD
from athanor.tagger.known import KnownTagger, RemoteFile, known_tagger
from athanor.tagger.models import find_taggers
from athanor.tagger.thresholds import Thresholds

LABELS, MODEL = b"tag_id,name,category,count\n0,solo,0,9\n", bytes(range(256)) * 4000
KNOWN = KnownTagger(
    "probe v1",
    "someone/probe",
    (RemoteFile("v1/selected_tags.csv", "selected_tags.csv"), RemoteFile("v1/model.onnx", "model.onnx", len(MODEL))),
    WD,
    Thresholds(),
)
CONTENT = {"v1/selected_tags.csv": LABELS, "v1/model.onnx": MODEL}


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    pytest.importorskip("huggingface_hub")
    with serving() as mirror:
        mirror.files |= {f"someone/probe/{path}": content for path, content in CONTENT.items()}
        monkeypatch.setenv("HF_ENDPOINT", mirror.url)
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield mirror


def test_files_come_from_the_mirror_that_is_set(tmp_path: Path, mirror: Mirror) -> None:
    folder = tmp_path / "wd taggers 模型"
    seen: list[tuple[int, int]] = []
    assert download_tagger(KNOWN, folder, on_progress=lambda done, of: seen.append((done, of))) == folder / "probe v1"
    assert (folder / "probe v1" / "model.onnx").read_bytes() == MODEL
    assert (folder / "probe v1" / "selected_tags.csv").read_bytes() == LABELS
    assert seen[-1] == (len(LABELS) + len(MODEL),) * 2 and all(done <= of for done, of in seen)
    assert [path.name for path in folder.iterdir()] == ["probe v1"], "nothing is left beside it"
    assert find_taggers([folder]) == {"probe v1": folder / "probe v1"}
    assert set(mirror.asked) == mirror.files.keys()


def test_a_file_that_is_not_there_is_told_with_its_place(tmp_path: Path, mirror: Mirror) -> None:
    del mirror.files["someone/probe/v1/model.onnx"]
    with pytest.raises(TaggerError, match=r"v1/model\.onnx of someone/probe could not be downloaded") as error:
        download_tagger(KNOWN, tmp_path)
    assert f"v1/model.onnx as {tmp_path / 'probe v1' / 'model.onnx'}" in str(error.value) and "HF_ENDPOINT" in str(error.value)
    assert "404" in str(error.value)
    assert not (tmp_path / "probe v1" / "model.onnx").exists()


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TaggerError, match=r"could not be downloaded.*offline") as error:
        download_tagger(KNOWN, tmp_path)
    assert f"v1/selected_tags.csv as {tmp_path / 'probe v1' / 'selected_tags.csv'}" in str(error.value)


def _fetching(asked: list[str], content: dict[str, bytes] = CONTENT):
    def fetch(repository: str, path: str, folder: Path, on_bytes) -> Path:
        assert repository == "someone/probe"
        asked.append(path)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        for part in (0.5, 1):
            (folder / path).write_bytes(content[path][: int(len(content[path]) * part)])
            on_bytes(int(len(content[path]) * part), len(content[path]))
        return folder / path

    return fetch


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    asked: list[str] = []
    (tmp_path / "probe v1").mkdir()
    (tmp_path / "probe v1" / "model.onnx").write_bytes(b"mine")
    download_tagger(KNOWN, tmp_path, fetch=_fetching(asked))
    assert asked == ["v1/selected_tags.csv"]
    assert (tmp_path / "probe v1" / "model.onnx").read_bytes() == b"mine"
    download_tagger(KNOWN, tmp_path, fetch=_fetching(asked))
    assert len(asked) == 1


def test_progress_runs_over_all_files(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download_tagger(KNOWN, tmp_path, fetch=_fetching([]), on_progress=lambda done, of: seen.append((done, of)))
    small, large = len(LABELS), len(MODEL)
    assert [done for done, _ in seen] == [small // 2, small, small, small + large // 2, small + large, small + large]
    assert [of for _, of in seen][-3:] == [small + large] * 3


def test_a_cancelled_download_leaves_no_half_file_and_goes_on_later(tmp_path: Path) -> None:
    def cancel(done: int, of: int) -> None:
        if done > len(LABELS):
            raise KeyboardInterrupt

    asked: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        download_tagger(KNOWN, tmp_path, fetch=_fetching(asked), on_progress=cancel)
    assert not (tmp_path / "probe v1" / "model.onnx").exists()
    assert find_taggers([tmp_path]).keys() <= {"probe v1"}, "what is unfinished is not listed"
    download_tagger(KNOWN, tmp_path, fetch=_fetching(asked))
    assert asked == ["v1/selected_tags.csv", "v1/model.onnx", "v1/model.onnx"]
    assert (tmp_path / "probe v1" / "model.onnx").read_bytes() == MODEL and not (tmp_path / ".downloading").exists()


def test_cancelling_ends_the_process_that_downloads(tmp_path: Path, mirror: Mirror, monkeypatch) -> None:
    import subprocess

    started: list[subprocess.Popen] = []
    real = subprocess.Popen

    def counted(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", counted)

    def cancel(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        download_tagger(KNOWN, tmp_path, on_progress=cancel)
    assert len(started) == 1 and started[0].poll() is not None


def test_a_full_disk_is_told_in_the_same_way(tmp_path: Path) -> None:
    def full(repository: str, path: str, folder: Path, on_bytes) -> Path:
        raise OSError(28, "No space left on device")

    with pytest.raises(TaggerError, match="No space left on device") as error:
        download_tagger(KNOWN, tmp_path, fetch=full)
    assert "someone/probe on Hugging Face" in str(error.value)


@pytest.fixture
def release(monkeypatch) -> Iterator[tuple[KnownTagger, Mirror]]:
    """DeepDanbooru, which does not come from Hugging Face."""
    known = known_tagger("DeepDanbooru")
    with serving() as mirror:
        mirror.files[f"{known.repository}/{known.files[0].path}"] = MODEL
        monkeypatch.setattr("athanor.tagger.download._GITHUB", mirror.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield known, mirror


def test_a_release_is_fetched_and_carried_on(tmp_path: Path, release) -> None:
    known, mirror = release
    part = tmp_path / ".downloading" / known.name / f"{known.files[0].name}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(MODEL[:1000])
    seen: list[tuple[int, int]] = []
    folder = download_tagger(known, tmp_path, on_progress=lambda done, of: seen.append((done, of)))
    assert (folder / known.files[0].name).read_bytes() == MODEL and seen[-1] == (len(MODEL), len(MODEL))
    assert mirror.asked == list(mirror.files) and not (tmp_path / ".downloading").exists()


def test_a_release_that_is_not_there_is_told_with_its_place(tmp_path: Path, release) -> None:
    known, mirror = release
    mirror.files.clear()
    with pytest.raises(TaggerError, match=r"could not be downloaded .*404.*AUTOMATIC1111/TorchDeepDanbooru on GitHub: put") as error:
        download_tagger(known, tmp_path)
    assert str(tmp_path / "DeepDanbooru" / known.files[0].name) in str(error.value) and "HF_ENDPOINT" not in str(error.value)
