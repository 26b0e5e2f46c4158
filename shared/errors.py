"""How work can fail, in three words: temporary, permanent, superseded.

A handler raises one of these; the worker decides what becomes of the message. Anything else a handler raises is a
defect of ours and treated as permanent, with its traceback kept: repeating an unknown error repeats its harm.
"""


class BowerbirdError(Exception):
    """Base of every error the suite raises on purpose."""


class TemporaryError(BowerbirdError):
    """The same work may succeed later: a peer is down, slow or busy. Tried again after a growing delay.

    :param retry_after: seconds the peer asked us to wait (HTTP ``Retry-After``), or None to use the back-off.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(BowerbirdError):
    """The same work would fail again. The text names the thing and the remedy; it becomes the task's note."""


class SupersededError(BowerbirdError):
    """The claim on the unit is lost (lease expired, cancelled, restarted): write nothing, settle nothing."""


class BrokerUnavailableError(TemporaryError):
    """The broker cannot be reached, or did not confirm. Nothing is known to be published."""


class ConfigurationError(BowerbirdError):
    """A setting or a deployment is wrong; the process ends with a non-zero status and this text."""
