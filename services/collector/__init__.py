"""The collector: brings records in from files, archives and URLs, word for word."""
