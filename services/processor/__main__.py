"""``python -m services.processor``."""

from shared.worker import main

if __name__ == "__main__":
    main("processor")
