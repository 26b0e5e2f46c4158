"""Calling a handler as the runtime does, again and again with the state that it left."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import text, update

from shared.db.models import Unit
from shared.units import Later
from tests.waiting import eventually


class Calls:
    """One unit's calls. ``laters`` are the answers that were no end."""

    def __init__(self, handler, work):
        self.handler, self.work, self.laters = handler, work, []
        work.session.commit()  # its unit can be seen by everyone

    def once(self):
        """Call the handler; return the output, or what it says that it waits for."""
        found = self.handler(self.work)
        if isinstance(found, Later):
            assert found.delay >= timedelta(0)
            self.work.session.rollback()
            self.laters.append(found)
            self.work.notes.clear()
            self.work.remove_directories()
            self.claim_anew(found.state)
        return found

    def claim_anew(self, state):
        """Be the next attempt: with another token."""
        session, assignment = self.work.session, self.work.assignment
        token = session.execute(text("SELECT nextval('unit_token')")).scalar_one()
        session.execute(update(Unit).where(Unit.id == assignment.unit_id).values(token=token))
        session.commit()
        self.work.assignment = replace(assignment, state=state, token=token)
        self.work.__dict__.pop("staging", None)
        self.work.__dict__.pop("scratch", None)

    def until(self, condition, seconds=60):
        """Call it until the condition holds for what it returned; return that."""

        def found():
            later = self.once()
            return later if condition(later) else None

        return eventually(found, seconds=seconds, what=f"the unit to get there; so far {self.laters[-3:]}")

    def end(self, seconds=60):
        """Call it until it returns an output; return that."""
        return self.until(lambda found: not isinstance(found, Later), seconds)

    @property
    def state(self):
        return self.work.assignment.state
