"""Does a server conform to OGC API - Processes - Part 1: Core (OGC 18-062r2)? Judged over HTTP alone.

A check is a function of a :class:`~tests.ogc.server.Server`, one for each requirement or habit of the official test
suite; modules are by topic. ``test_conformance.py`` holds our own services against all of them, and

    python -m tests.ogc http://127.0.0.1:8080 --process echo

any server, with a table of what passed, what failed and why. The process should echo its inputs, as section 12 of the
standard's test suite wants it: ``text``, ``pause``, ``fail`` and one input of each form.
"""
