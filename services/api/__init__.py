"""The read API: public collections, their jobs and their files, over HTTP. docs/api.md shows each endpoint.

A request goes route (routes.py), query and read model (shared/views.py), JSON (schemas.py); downloads.py serves the
files and problems.py everything that went wrong. Nothing here writes.
"""
