"""Programs of others against the API over real sockets: generators of requests and of clients, OGC clients, curl."""
