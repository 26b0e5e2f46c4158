"""The handler of the echo process (shared/processes.py)."""

from datetime import timedelta
from typing import Any

from shared.processes import BUILT_IN, ECHO
from shared.units import Later
from shared.worker.context import Work


def echo(work: Work) -> dict[str, Any] | Later:
    """Give back the inputs, after the pause that was asked for. The pause holds no worker: the unit is put off.

    Return ``outputs`` (name → value), and ``failure`` if it was asked to fail.
    """
    pause = float(work.params.get("pause", 0))
    if pause > 0 and not work.state:
        return Later(timedelta(seconds=pause), {"paused": True}, note=f"Pauses for {pause:g} s, as it was asked to.")
    if work.params.get("fail"):
        return {"outputs": {}, "failure": "It failed, as it was asked to."}
    known = BUILT_IN[ECHO].outputs
    return {"outputs": {name: value for name, value in work.params.items() if name in known}}
