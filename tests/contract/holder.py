"""A consumer process for tests to kill: takes messages and never settles them. ``python -m tests.contract.holder``.

Arguments: queue, number of messages. Prints ``holding`` once it has them.
"""

import sys

from shared.broker import open_broker
from shared.settings import load_settings

if __name__ == "__main__":
    settings = load_settings()
    queue, number = sys.argv[1], int(sys.argv[2])
    consumer = open_broker(settings, settings.database_url).consume([queue], prefetch=number)
    held = 0
    while True:
        if consumer.receive(0.2) is not None:
            held += 1
            if held == number:
                print("holding", flush=True)
