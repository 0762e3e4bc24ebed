"""Athanor: trains LoRAs, embeddings and checkpoints inside ComfyUI graphs.

ComfyUI imports this folder under a module name made of its path, pytest as a bare module and the worker as the
package ``athanor``: so nothing is imported at module level, and everything below imports relatively.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's entry to a V3 node pack."""
    from .nodes import AthanorExtension

    return AthanorExtension()
