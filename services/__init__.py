"""The services. They never import each other; a message or a row is how they speak."""
