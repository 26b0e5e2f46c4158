"""``python -m services.flattener``."""

from shared.worker import main

if __name__ == "__main__":
    main("flattener")
