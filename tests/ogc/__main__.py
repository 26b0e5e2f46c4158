"""``python -m tests.ogc URL``: hold a server against every check; status 1 if it fails one."""

import argparse
import os
import sys

import requests

from tests.ogc.checks import Check, NotOfferedError, all_checks
from tests.ogc.server import Server

OUTCOMES = ("passed", "failed", "not offered")


def judge(check: Check, server: Server) -> tuple[str, str]:
    """Return what came of a check, and why."""
    try:
        check.ask(server)
    except NotOfferedError as error:
        return "not offered", str(error)
    except (AssertionError, LookupError, TypeError, ValueError, requests.RequestException) as error:
        return "failed", str(error) if isinstance(error, AssertionError) else repr(error)
    return "passed", ""


def main() -> int:
    """Print a table: requirement, outcome, question, and why."""
    parser = argparse.ArgumentParser(prog="python -m tests.ogc", description=__doc__)
    parser.add_argument("url", help="of the landing page")
    parser.add_argument("--process", default="echo", help="which to execute; default: echo")
    parser.add_argument("--key", default=os.environ.get("OGC_KEY"), help="sent as a bearer token; default: $OGC_KEY")
    parser.add_argument("--only", default="", help="checks whose name has this in it")
    options = parser.parse_args()
    server = Server(options.url, options.process, options.key)
    count = dict.fromkeys(OUTCOMES, 0)
    for check in all_checks():
        if options.only not in check.name:
            continue
        outcome, why = judge(check, server)
        count[outcome] += 1
        print(f"{outcome:11}  {check.name}{': ' if why else ''}{why}", flush=True)
    print(", ".join(f"{number} {outcome}" for outcome, number in count.items()))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
