"""``python -m services.collector``."""

from shared.worker import main

if __name__ == "__main__":
    main("collector")
