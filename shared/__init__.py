"""What two services need, and nothing else: settings, tables, broker, worker runtime, command line."""
