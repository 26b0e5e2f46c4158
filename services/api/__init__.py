"""The API: collections, their jobs and their files, and steering them, over HTTP. docs/api.md shows each endpoint.

A read goes route (routes.py), query and read model (shared/views.py), JSON (schemas.py); downloads.py serves the files
and problems.py everything that went wrong. An action (control.py, administration.py) goes key (keys.py), body
(bodies.py), shared code, answer (kept by idempotency.py). openapi.py, control_openapi.py and administration_openapi.py
describe it all.
"""
