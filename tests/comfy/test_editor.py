"""The routes of the tag editor and its hand edits in a real ComfyUI; and that no way leads out of the folders that may be read."""

from __future__ import annotations

import http.client
import io
import json
import re
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from comfyui_server import ComfyUI, ServerError, failure
from graphs import Prompt, node
from PIL import Image

pytestmark = [pytest.mark.comfy, pytest.mark.slow]
FOLDER = "手动 edits"
LIMIT_SEC = 300
CAPTIONS = {"1.png": "1girl, hat, solo", "2.png": "1girl, long_hair", "night/3.jpg": "", "night/4.png": "hatsune miku, 1girl"}
ORIGIN = "/athanor/editor"


@pytest.fixture(scope="module")
def server(comfyui: ComfyUI) -> ComfyUI:
    for i, (name, caption) in enumerate(CAPTIONS.items()):
        file = comfyui.input_folder / FOLDER / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (60, 40), (40 * i, 90, 200))
        picture.paste((255, 0, 0), (0, 0, 30, 20))
        exif = Image.Exif()
        exif[0x0112] = 6 if name.endswith("jpg") else 1
        picture.save(file, exif=exif)
        if caption:
            file.with_suffix(".txt").write_text(caption, encoding="utf-8")
    lexicons = comfyui.models_folder / "tag_lexicons"
    lexicons.mkdir(parents=True, exist_ok=True)
    (lexicons / "editor.csv").write_text('1girl,0,6000,"sole_female"\nhatsune_miku,4,900,miku\nhat,0,40,\n', encoding="utf-8")
    return comfyui


def graph(server: ComfyUI, **editing: Any) -> Prompt:
    edit = node(server, "AthanorEditTags", dataset=["data", 0], **{"rules": "deduplicate", "lexicon": "editor.csv", **editing})
    return {
        "data": node(server, "AthanorLoadDataset", folder=FOLDER, trigger="", validation_percent=0.0, recursive=True),
        "edit": edit,
        "text": node(server, "PreviewAny", source=["edit", 2]),
    }


def run(server: ComfyUI, **editing: Any) -> tuple[str, str]:
    """Name of the listing, and the report."""
    outputs = server.run(graph(server, **editing), LIMIT_SEC)["outputs"]
    return outputs["edit"]["athanor_listing"][0], outputs["text"]["text"][0]


@pytest.fixture(scope="module")
def listing(server: ComfyUI) -> str:
    return run(server)[0]


def ask(server: ComfyUI, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and content. The path goes out as it is: no client tidies it up."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest(method, path, skip_accept_encoding=True)
    if body is not None:
        headers = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers.get("Content-Type", ""), content


def post(server: ComfyUI, name: str, **data: Any) -> tuple[int, Any]:
    status, _, content = ask(server, f"{ORIGIN}/{name}", "POST", json.dumps(data).encode())
    return status, json.loads(content)


def test_the_listing_tells_what_came_out_of_the_rules_and_no_path(server: ComfyUI, listing: str):
    status, said = post(server, "listing", listing=listing, hand_edits="")
    assert status == 200
    names = [name for name, _ in said["tags"]]
    shown = {picture[0]: [names[number] for number in picture[4]] for picture in said["pictures"]}
    assert shown == {f"{FOLDER}/{name}": [tag for tag in caption.split(", ") if tag] for name, caption in CAPTIONS.items()}
    assert dict(said["tags"]) == {"1girl": 0, "hat": 0, "solo": -1, "long_hair": -1, "hatsune miku": 4}
    sizes = {picture[0]: picture[1:3] for picture in said["pictures"]}
    assert sizes[f"{FOLDER}/night/3.jpg"] == [40, 60]
    assert str(server.base) not in json.dumps(said, ensure_ascii=False)


def test_hand_edits_are_replayed_after_the_rules(server: ComfyUI):
    edits = {
        f"{FOLDER}/1.png": {"remove": ["hat"], "add": ["red hat"], "order": ["red hat", "1girl", "solo"]},
        f"{FOLDER}/night/3.jpg": {"add": ["night"]},
        f"{FOLDER}/gone.png": {"add": ["x"]},
    }
    text = json.dumps({"version": 1, "pictures": edits})
    prompt = graph(server, rules="append: outdoors\nremove: solo", hand_edits=text)
    prompt["save"] = node(server, "AthanorSaveCaptions", dataset=["edit", 0], extension=".caption", backup=False, write=True)
    outputs = server.run(prompt, LIMIT_SEC)["outputs"]
    folder = server.input_folder / FOLDER
    saved = {name: (folder / name).with_suffix(".caption").read_text(encoding="utf-8").strip() for name in CAPTIONS}
    for name in CAPTIONS:
        (folder / name).with_suffix(".caption").unlink()
    assert saved == {
        "1.png": "red hat, 1girl, outdoors",
        "2.png": "1girl, long_hair, outdoors",
        "night/3.jpg": "outdoors, night",
        "night/4.png": "hatsune miku, 1girl, outdoors",
    }
    report = outputs["text"]["text"][0]
    assert "hand edits: 2 of 4 captions changed" in report and f"{FOLDER}/gone.png" in report


def test_unreadable_hand_edits_stop_the_prompt_with_a_sentence(server: ComfyUI):
    with pytest.raises(ServerError, match=r"AthanorEditTags.*hand edits cannot be read") as told:
        failure(server.wait(server.queue(graph(server, hand_edits="{not json")), LIMIT_SEC))
    assert "Traceback" not in str(told.value)


def test_the_filter_sees_the_hand_edits(server: ComfyUI, listing: str):
    edits = json.dumps({"version": 1, "pictures": {f"{FOLDER}/2.png": {"add": ["hat"]}}})
    assert post(server, "filter", listing=listing, filter="tag:hat", hand_edits="") == (200, {"chosen": [0]})
    assert post(server, "filter", listing=listing, filter="tag:hat", hand_edits=edits) == (200, {"chosen": [0, 1]})
    assert post(server, "filter", listing=listing, filter="path:night/ OR tags:>2", hand_edits="") == (200, {"chosen": [0, 2, 3]})
    assert post(server, "filter", listing=listing, filter=" ", hand_edits="") == (200, {"chosen": [0, 1, 2, 3]})
    status, said = post(server, "filter", listing=listing, filter="tag:hat (", hand_edits="")
    assert status == 400 and "tag:hat" in said["error"]


def test_tags_are_looked_up(server: ComfyUI):
    def found(text: str, lexicon: str = "editor.csv") -> list[list[Any]]:
        return json.loads(ask(server, f"{ORIGIN}/tags?text={quote(text)}&lexicon={quote(lexicon)}")[2])["tags"]

    assert found("e_fem") == [["1girl", 0, 6000, "sole female"]]
    assert found("ik") == [["hatsune miku", 4, 900, ""]]
    assert found("hat") == [["hat", 0, 40, ""], ["hatsune miku", 4, 900, ""]]
    assert found("x" * 150) == found("") == []
    assert ask(server, f"{ORIGIN}/tags?text={'x' * 300}")[0] == 400
    assert "hat" in [tag for tag, *_ in found("hat", "../../../etc/passwd")]  # no file by that name: the first that is there


def test_thumbnails_are_upright_webp_of_two_sizes(server: ComfyUI, listing: str):
    for side_px in (256, 1536):
        status, kind, content = ask(server, f"{ORIGIN}/thumbnail/{listing}/2/{side_px}")
        assert (status, kind) == (200, "image/webp")
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "WEBP" and picture.size == (40, 60)
            red, green, _ = picture.convert("RGB").getpixel((35, 5))
            assert red > 200 and green < 60, "the red corner is at the right after EXIF 6"
    assert ask(server, f"{ORIGIN}/thumbnail/{listing}/2/4096")[0] == 404


def test_a_large_picture_becomes_small(server: ComfyUI):
    folder = server.input_folder / "large one"
    folder.mkdir(exist_ok=True)
    Image.effect_noise((2400, 1800), 60).convert("RGB").save(folder / "a.jpg", quality=92)
    prompt = graph(server)
    prompt["data"]["inputs"]["folder"] = "large one"
    name = server.run(prompt, LIMIT_SEC)["outputs"]["edit"]["athanor_listing"][0]
    content = ask(server, f"{ORIGIN}/thumbnail/{name}/0/256")[2]
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (256, 192)
    assert len(content) < 40_000
    assert ask(server, f"{ORIGIN}/thumbnail/{name}/0/256")[2] == content


def test_the_server_answers_others_while_thumbnails_are_made(server: ComfyUI):
    folder = server.input_folder / "slow ones"
    folder.mkdir(exist_ok=True)
    noise = Image.effect_noise((3000, 3000), 60).convert("RGB")
    for i in range(4):
        noise.save(folder / f"{i}.png", compress_level=1)
    prompt = graph(server)
    prompt["data"]["inputs"]["folder"] = "slow ones"
    prompt["edit"]["inputs"]["max_images"] = 1
    name = server.run(prompt, LIMIT_SEC)["outputs"]["edit"]["athanor_listing"][0]
    threads = [threading.Thread(target=ask, args=(server, f"{ORIGIN}/thumbnail/{name}/{i}/1536")) for i in range(4)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        asked = time.perf_counter()
        assert ask(server, "/queue")[0] == 200
        waits.append(time.perf_counter() - asked)
        time.sleep(0.02)
    assert sorted(waits)[len(waits) // 2] < (time.perf_counter() - started) / 3


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/comfyui.log",
        "..%5c..%5cinput",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "C:%5cWindows%5cwin.ini",
        "....//....//etc/passwd",
        "%252e%252e%252fetc%252fpasswd",
        "a" * 32,
        "%00",
        "*",
    ],
)
def test_no_name_of_a_listing_leads_anywhere(server: ComfyUI, listing: str, name: str):
    secret = server.base / "secret.json"
    secret.write_text('{"pictures": [], "secret": 1}', encoding="utf-8")
    for path in (f"thumbnail/{name}/0/256", f"scores/{name}/0", f"thumbnail/{listing}/{name}/256", f"thumbnail/{listing}/0/{name}"):
        for prefix in (ORIGIN, f"/api{ORIGIN}"):
            status, kind, content = ask(server, f"{prefix}/{path}")
            assert status in (400, 403, 404), path
            assert not kind.startswith("image/") and b"root:" not in content and b"secret" not in content
    for plain in (name, name.replace("%2f", "/").replace("%2e", "."), f"{listing}.json", f"../editor/{listing}", listing.upper() + "0"):
        assert post(server, "listing", listing=plain, hand_edits="")[0] == 404
        assert post(server, "filter", listing=plain, filter="", hand_edits="")[0] == 404


@pytest.mark.parametrize("number", ["-1", "4", "99999999999999999999", "0x0", "٣", "1e0", "%31%2f", "0%00", ""])
def test_only_numbers_of_pictures_are_pictures(server: ComfyUI, listing: str, number: str):
    assert ask(server, f"{ORIGIN}/thumbnail/{listing}/{quote(number, safe='%')}/256")[0] == 404


def test_a_picture_that_became_a_link_to_elsewhere_is_not_shown(server: ComfyUI, tmp_path: Path):
    outside = tmp_path / "private.png"
    Image.new("RGB", (50, 50), "red").save(outside)
    folder = server.input_folder / "turned"
    folder.mkdir()
    inside = folder / "a.png"
    Image.new("RGB", (50, 50), "blue").save(inside)
    prompt = graph(server)
    prompt["data"]["inputs"]["folder"] = "turned"
    name = server.run(prompt, LIMIT_SEC)["outputs"]["edit"]["athanor_listing"][0]
    assert ask(server, f"{ORIGIN}/thumbnail/{name}/0/256")[0] == 200
    inside.unlink()
    assert ask(server, f"{ORIGIN}/thumbnail/{name}/0/1536")[0] == 404
    try:
        inside.symlink_to(outside)
    except OSError:
        pytest.skip("no links on this system")
    for path in (f"thumbnail/{name}/0/256", f"thumbnail/{name}/0/1536", f"scores/{name}/0"):
        status, kind, _ = ask(server, f"{ORIGIN}/{path}")
        assert status == 403 and kind.startswith("application/json")
    inside.unlink()
    folder.rmdir()
    elsewhere = tmp_path / "folder"
    elsewhere.mkdir()
    outside.replace(elsewhere / "a.png")
    folder.symlink_to(elsewhere, target_is_directory=True)
    assert ask(server, f"{ORIGIN}/thumbnail/{name}/0/256")[0] == 403
    folder.unlink()


def test_only_json_of_the_same_site_is_taken(server: ComfyUI, listing: str):
    body = json.dumps({"listing": listing, "filter": "", "hand_edits": ""}).encode()
    path = f"{ORIGIN}/filter"
    assert ask(server, path, "POST", body)[0] == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert ask(server, path, "POST", body, Content_Type=kind)[0] == 415
    assert ask(server, path, "POST", body, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, path, "POST", body, Origin="http://evil.example")[0] == 403
    digits = b'{"listing": ' + b"1" * 5000 + b"}"
    for broken in (b"", b"{", b"[]", b"\xff", b'"x"', b'{"listing": 3, "filter": "", "hand_edits": ""}', b'{"filter": ""}', b"[" * 200_000, digits):
        assert ask(server, path, "POST", broken)[0] == 400
    long = json.dumps({"listing": listing, "filter": "x" * 5000, "hand_edits": ""}).encode()
    assert ask(server, path, "POST", long)[0] == 400
    assert ask(server, path, "POST", b"{}", Content_Length="999999999999")[0] in (400, 413)
    assert ask(server, path, "GET")[0] in (404, 405)


def test_a_body_without_an_end_is_cut_off(server: ComfyUI):
    """In chunks, so that no length is told before."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.putrequest("POST", f"{ORIGIN}/filter")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    chunk, num_sent = b"x" * (1 << 20), 0
    try:
        while num_sent < 200:
            connection.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            num_sent += 1
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the server has closed it
    try:
        assert connection.getresponse().status == 413
    except (OSError, http.client.HTTPException):
        assert num_sent < 200
    connection.close()
    assert ask(server, "/queue")[0] == 200


def test_asking_changes_nothing(server: ComfyUI, listing: str):
    def state() -> dict[str, int]:
        parts = (server.input_folder, server.output_folder, server.models_folder)
        return {str(path): path.stat().st_mtime_ns for part in parts for path in part.rglob("*") if path.is_file()}

    before = state()
    post(server, "listing", listing=listing, hand_edits="")
    post(server, "filter", listing=listing, filter="1girl", hand_edits="")
    for path in (f"thumbnail/{listing}/0/256", f"thumbnail/{listing}/0/1536", f"scores/{listing}/0", "tags?text=hat"):
        assert ask(server, f"{ORIGIN}/{path}")[0] == 200
    assert state() == before


def test_scores_that_auto_tag_has_kept_are_told(server: ComfyUI):
    pytest.importorskip("onnxruntime")
    prompt = graph(server)
    prompt["tags"] = node(server, "AthanorAutoTag", dataset=["data", 0], mode="append", tagger="Athanor miniature (built in)")
    prompt["edit"]["inputs"]["dataset"] = ["tags", 0]
    name = server.run(prompt, LIMIT_SEC)["outputs"]["edit"]["athanor_listing"][0]
    (scored,) = json.loads(ask(server, f"{ORIGIN}/scores/{name}/0")[2])["taggers"]
    values = [score for _, score, _ in scored["tags"]]
    assert scored["name"] == "Athanor miniature (built in)"
    assert values and values == sorted(values, reverse=True) and all(0.05 <= value <= 1 for value in values)
    assert post(server, "listing", listing=name, hand_edits="")[1]["has_scores"] is True
    assert not re.search(r"_", "".join(tag for tag, *_ in scored["tags"]))


def test_without_auto_tag_there_are_no_scores(server: ComfyUI, listing: str):
    assert json.loads(ask(server, f"{ORIGIN}/scores/{listing}/0")[2]) == {"taggers": []}
    assert post(server, "listing", listing=listing, hand_edits="")[1]["has_scores"] is False
