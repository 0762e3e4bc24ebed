"""What a page, or any other client, is told while a training goes on: its progress, and the latest sample picture as the node's preview."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import pytest
from comfyui_server import ComfyUI
from graphs import training
from tiny import make_pictures

pytestmark = pytest.mark.comfy
FOLDER = "6_previewed"
LIMIT_SEC = 300
PREVIEW_EVENTS = (1, 4)
"""ComfyUI's PREVIEW_IMAGE and PREVIEW_IMAGE_WITH_METADATA."""


def test_the_latest_sample_picture_is_the_nodes_preview(comfyui: ComfyUI):
    make_pictures(comfyui.input_folder / FOLDER)
    prompt = training(comfyui, FOLDER, "previewed", epochs=2, sample_prompts="subject 1")
    # In a thread of its own: a browser test before this one leaves its event loop running in the main thread.
    with ThreadPoolExecutor(1) as thread:
        texts, previews = thread.submit(lambda: asyncio.run(asyncio.wait_for(watch(comfyui, prompt), LIMIT_SEC))).result()
    assert len(previews) >= 1 and all(data.count(b"\xff\xd8\xff") == 1 for data in previews), "a JPEG each"
    steps = [text["data"]["nodes"]["train"]["value"] for text in texts if text["type"] == "progress_state" and "train" in text["data"]["nodes"]]
    assert max(steps) > 1


async def watch(server: ComfyUI, prompt: dict) -> tuple[list[dict], list[bytes]]:
    """Queues `prompt` as a page does, and collects what comes until it has ended."""
    client, texts, previews = uuid.uuid4().hex, [], []
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws?clientId={client}") as socket:
        async with session.post(f"{server.url}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY and struct.unpack(">I", message.data[:4])[0] in PREVIEW_EVENTS:
                previews.append(message.data)
            elif message.type == aiohttp.WSMsgType.TEXT:
                texts.append(json.loads(message.data))
                if texts[-1]["type"] in ("execution_success", "execution_error") and texts[-1]["data"]["prompt_id"] == prompt_id:
                    assert texts[-1]["type"] == "execution_success", texts[-1]
                    break
    return texts, previews
