"""Other systems for tests: a real Scrapyd, and servers that answer as Kingfisher Process and Pelican do."""
