"""A run and its epochs on disk: written by the worker, read by the nodes and the page."""
