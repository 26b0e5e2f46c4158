"""``python -m services.exporter``."""

from shared.worker import main

if __name__ == "__main__":
    main("exporter")
