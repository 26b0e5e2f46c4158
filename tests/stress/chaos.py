"""What goes wrong, and when: drawn from a seed, one thing at a time or two at once.

Kinds are dealt like cards: every kind comes up before any comes again, in an order and with victims that the seed
decides. What they meet is not repeatable, since the services' timing is not.
"""

import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.broker import Broker
from shared.errors import BrokerUnavailableError
from shared.messages import queues
from shared.tasks import WORKER_SERVICES
from tests.stress.line import SCHEDULER, Line, Member
from tests.stress.servers import Postgres, RabbitMQ

PAIR_SHARE = 0.3
"""How often two things happen at once."""
DOWN_SECONDS = (0.2, 4.0)
FREEZE_LEASES = (0.7, 2.5)
"""How long a freeze lasts, in leases: mostly longer than one."""


class Chaos:
    """Disturbs. Used by one thread, which calls :meth:`tend` often."""

    def __init__(
        self,
        line: Line,
        postgres: Postgres,
        rabbitmq: RabbitMQ | None,
        broker: Broker,
        *,
        lease_seconds: float,
        pause_seconds: float,
        chance: random.Random,
        journal: Path,
    ) -> None:
        self._line, self._postgres, self._rabbitmq, self._broker = line, postgres, rabbitmq, broker
        self._lease, self._pause, self._chance = lease_seconds, pause_seconds, chance
        self._journal = journal.open("w")
        self._deck: list[str] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._next = time.monotonic() + pause_seconds
        self.done: Counter[str] = Counter()
        self.victims: list[tuple[float, str]] = []
        """(moment, as seconds since the epoch; process) of whatever a worker's process was disturbed."""
        self._kinds: dict[str, Callable[[], Any]] = {
            "worker killed": self._kill_worker,
            "worker killed again": self._kill_worker,
            "child killed": self._kill_child,
            "child killed again": self._kill_child,
            "worker and child frozen": lambda: self._freeze(WORKER_SERVICES, children_too=True),
            "worker frozen, child not": lambda: self._freeze(WORKER_SERVICES, children_too=False),
            "worker stopped": self._terminate_worker,
            "service restarted": self._restart_service,
            "scheduler killed": self._kill_scheduler,
            "scheduler frozen": lambda: self._freeze([SCHEDULER], children_too=False),
            "scheduler stopped": lambda: self._terminate(self._any([SCHEDULER])),
            "database killed": lambda: self._stop_postgres(signal.SIGKILL),
            "database restarted": lambda: self._stop_postgres(signal.SIGQUIT),
            "connections cut": self._cut_connections,
            "connections cut again": self._cut_connections,
            "queue purged": self._purge,
            "all queues purged": self._purge_all,
        }
        if rabbitmq is not None:
            self._kinds["broker killed"] = lambda: self._end_broker(rabbitmq, rabbitmq.node.kill)
            self._kinds["broker restarted"] = lambda: self._end_broker(rabbitmq, rabbitmq.stop)

    @property
    def total(self) -> int:
        """How many disturbances there were."""
        return self.done.total()

    def tend(self) -> None:
        """Do what is due."""
        self._follow_up()
        if time.monotonic() >= self._next and self._is_worth_it():
            for _ in range(2 if self._chance.random() < PAIR_SHARE else 1):
                self._disturb()
            self._next = time.monotonic() + self._chance.uniform(0.2, 1.8) * self._pause

    def _is_worth_it(self) -> bool:
        """Whether there is something to disturb. Who is down anyway learns nothing from another blow."""
        servers = (self._postgres, self._rabbitmq)
        return self._line.can_work and not any(server is not None and server.down for server in servers)

    def end(self) -> None:
        """Disturb no more, and let everything go on that was stopped."""
        for _, action in self._later:
            action()
        self._later.clear()
        self._journal.close()

    def _follow_up(self) -> None:
        now = time.monotonic()
        due = [action for at, action in self._later if at <= now]
        self._later = [(at, action) for at, action in self._later if at > now]
        for action in due:
            action()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _disturb(self) -> None:
        if not self._deck:
            self._deck = sorted(self._kinds)
            self._chance.shuffle(self._deck)
        kind = self._deck.pop()
        moment = time.time()
        met = self._kinds[kind]()
        if met is not None:
            kind = kind.removesuffix(" again")
            self.done[kind] += 1
            self._journal.write(json.dumps({"at": moment, "kind": kind, "met": met}) + "\n")
            self._journal.flush()

    # Services. Each returns what it met, None if there was nothing to disturb.

    def _any(self, services: Any) -> Member | None:
        free = self._line.free(services)
        return self._chance.choice(free) if free else None

    def _suffer(self, member: Member) -> str:
        self.victims.append((time.time(), str(member.pid)))
        return f"{member.name}, process {member.pid}"

    def _kill_worker(self) -> str | None:
        member = self._any(WORKER_SERVICES)
        if member is None:
            return None
        met = self._suffer(member)
        self._line.kill(member)
        return met

    def _kill_child(self) -> str | None:
        member = self._any(WORKER_SERVICES)
        child = self._line.kill_child(member) if member is not None else None
        return f"{self._suffer(member)}, child {child}" if member is not None and child is not None else None

    def _freeze(self, services: Any, *, children_too: bool) -> str | None:
        member = self._any(services)
        if member is None:
            return None
        met = self._suffer(member)
        self._line.freeze(member, children_too=children_too)
        seconds = self._lease * self._chance.uniform(*FREEZE_LEASES)
        self._after(seconds, lambda: self._line.thaw(member))
        return f"{met}, for {seconds:.1f} s"

    def _terminate_worker(self) -> str | None:
        return self._terminate(self._any(WORKER_SERVICES))

    def _terminate(self, member: Member | None) -> str | None:
        if member is None:
            return None
        met = self._suffer(member)
        self._line.terminate(member)
        return met

    def _restart_service(self) -> list[str] | None:
        """A rolling restart: one after the other."""
        members = self._line.free([self._chance.choice(WORKER_SERVICES)])
        for number, member in enumerate(members):
            self._after(number * 1.0, lambda member=member: member.is_free and self._terminate(member))
        return [member.name for member in members] or None

    def _kill_scheduler(self) -> str | None:
        member = self._any([SCHEDULER])
        if member is None:
            return None
        self._line.kill(member)
        return member.name

    # Servers

    def _stop_postgres(self, number: signal.Signals) -> str | None:
        if self._postgres.down:
            return None
        seconds = self._chance.uniform(*DOWN_SECONDS)
        self._postgres.cycle(lambda: self._postgres.stop(number), seconds)
        return f"for {seconds:.1f} s"

    def _cut_connections(self) -> str | None:
        if self._postgres.down:
            return None
        cut = self._postgres.cut_connections(self._chance.choice((0.05, 0.3, 1.0)))
        return f"{cut} connections" if cut else None

    def _end_broker(self, server: RabbitMQ, end: Callable[[], None]) -> str | None:
        if server.down:
            return None
        seconds = self._chance.uniform(*DOWN_SECONDS)
        server.cycle(end, seconds)
        return f"for {seconds:.1f} s and a start"

    def _purge(self) -> str | None:
        return self._purge_queues([self._chance.choice(queues())])

    def _purge_all(self) -> str | None:
        return self._purge_queues(queues())

    def _purge_queues(self, names: list[str]) -> str | None:
        if self._postgres.down or (self._rabbitmq is not None and self._rabbitmq.down):
            return None
        with contextlib.suppress(BrokerUnavailableError):
            return f"{sum(self._broker.purge(name) for name in names)} messages of {', '.join(names)}"
        return None
