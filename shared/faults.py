"""Fault points: named places where a test makes a process die, freeze or fail. In production they do nothing.

The model: the code says ``fault("child.kept")`` in each place where an accident would be worst, between two effects
that should be one. The call looks into an empty tuple, and that is all (some 40 ns, a dozen times a unit: nothing that
is called for each record has a point).

Nothing in the suite can turn a point on: no setting, no variable, no file is read here. A test starts the process
through ``python -m tests.faults`` instead, which calls :func:`interfere` with what the test wants (see there), in the
child processes too. That module is no part of what is installed, so a deployment has nothing to switch on by mistake.

The points, and what lies on either side of each, are in docs/contributing.md; a test keeps that table complete.
"""

from collections.abc import Callable

_acts: tuple[Callable[[str], None], ...] = ()


def fault(point: str) -> None:
    """Be a place where a test may interfere. The name says which process it is, and what has just happened."""
    for act in _acts:
        act(point)


def interfere(act: Callable[[str], None]) -> None:
    """Have every point of this process call ``act`` with its name. Only tests/faults.py does."""
    global _acts  # noqa: PLW0603  one for the process, as a process dies as a whole
    _acts = (*_acts, act)
