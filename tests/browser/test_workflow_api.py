"""tools/workflow_api.py against the page itself: the same saved workflow gives the same prompt."""

from __future__ import annotations

import pytest
from workflow_api import to_api

pytestmark = [pytest.mark.comfy, pytest.mark.browser]

# A graph with everything that the conversion knows: seeds with a control, an upload button, a muted node, a bypassed
# one, a reroute, a primitive, a note, a widget fed by a link, and an optional input left open.
BUILD = """
() => {
  app.graph.clear()
  const add = (type, title) => {
    const node = LiteGraph.createNode(type)
    if (title) node.title = title
    app.graph.add(node)
    return node
  }
  const image = add('LoadImage')
  const scale = add('ImageScale', 'My own title')
  const blur = add('ImageBlur')
  const invert = add('ImageInvert')
  const reroute = add('Reroute')
  const save = add('SaveImage')
  const muted = add('PreviewImage')
  const sampler = add('KSampler')
  const latent = add('EmptyLatentImage')
  const number = add('PrimitiveInt')
  const compare = add('ImageBatch')
  const note = add('Note')
  image.connect(0, scale, 0)
  scale.connect(0, blur, 0)
  blur.connect(0, reroute, 0)
  reroute.connect(0, invert, 0)
  invert.connect(0, save, 0)
  invert.connect(0, muted, 0)
  image.connect(0, compare, 0)
  blur.mode = 4
  muted.mode = 2
  const widthSlot = latent.inputs.findIndex(input => input.name === 'width')
  number.connect(0, latent, widthSlot)
  latent.connect(0, sampler, sampler.inputs.findIndex(input => input.name === 'latent_image'))
  const set = (node, name, value) => { node.widgets.find(widget => widget.name === name).value = value }
  set(sampler, 'seed', 7)
  set(sampler, 'steps', 3)
  set(sampler, 'scheduler', 'karras')
  set(sampler, 'denoise', 0.5)
  set(scale, 'width', 96)
  set(save, 'filename_prefix', 'a name')
  set(number, 'value', 320)
  set(latent, 'height', 192)
}
"""


def test_same_prompt_as_the_page(open_page, comfyui):
    page = open_page()
    page.page.evaluate(BUILD)
    expected = page.to_api()
    ours = to_api(page.saved(), comfyui.object_info())
    assert ours == expected
    by_type = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in ours.items()}
    assert not {"ImageBlur", "Reroute", "PreviewImage", "Note"} & set(by_type)
    assert by_type["ImageInvert"][1] == {"image": [by_type["ImageScale"][0], 0]}
    assert by_type["KSampler"][1]["steps"] == 3 and by_type["KSampler"][1]["denoise"] == 0.5
    assert by_type["EmptyLatentImage"][1]["width"] == [by_type["PrimitiveInt"][0], 0]


def test_the_page_loads_what_it_saved(open_page, comfyui):
    page = open_page()
    page.page.evaluate(BUILD)
    saved = page.saved()
    page.load(saved)
    assert to_api(saved, comfyui.object_info()) == page.to_api()
