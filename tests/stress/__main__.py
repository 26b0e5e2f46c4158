"""``python -m tests.stress``: kill, freeze and restart everything while jobs run. Exit status 1 on any violation."""

import argparse
import logging
import random
import signal
import sys

import pytest
import structlog

from tests.stress.run import Options, run


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="small jobs (default %(default)s)")
    parser.add_argument("--large", type=int, default=3, help="jobs of 20,000 records (default %(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="processes of each worker service (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=0, help="repeat the jobs for so long (default: each once)")
    parser.add_argument("--disturbances", type=int, default=0, help="repeat the jobs until there were so many")
    parser.add_argument("--pause", type=float, default=2, help="seconds between disturbances (default %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="what goes wrong in which order (default: a new one)")
    parser.add_argument("--broker", choices=["rabbitmq", "postgresql"], default="rabbitmq")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # takes its servers along, like Ctrl-C
    # That a broker is away is no news here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    options = Options(
        jobs=arguments.jobs,
        large=arguments.large,
        workers=arguments.workers,
        minutes=arguments.minutes,
        disturbances=arguments.disturbances,
        pause_seconds=arguments.pause,
        seed=random.randrange(1_000_000) if arguments.seed is None else arguments.seed,
        broker=arguments.broker,
        say=lambda text: print(text, flush=True),
    )
    print(f"seed {options.seed}", flush=True)
    try:
        report = run(options)
    except pytest.skip.Exception as error:
        sys.exit(str(error))
    print(report)
    sys.exit(1 if report.violations else 0)


if __name__ == "__main__":
    main()
