"""Sentences about pictures, by models that see and write. The host uses `store`; the rest runs in the worker."""
